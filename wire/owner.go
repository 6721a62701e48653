package wire

import "log/slog"

// What a person does with their account, on a connection with a token, as
// auth.go says: a stream for each.
//
//	node                                    authd
//	RENAME (name)                     ──►
//	                                  ◄──   GRANT (a token with the new name)
//
//	PASSWORD                          ──►
//	                                  ◄──   CHALLENGE (salt of the present password, policy)
//	CHANGE (prehash of it, the new)   ──►
//	                                  ◄──   DONE
//
//	DEVICES                           ──►
//	                                  ◄──   DEVICE LIST
//
//	REVOKE (device)                   ──►
//	                                  ◄──   DONE

func (*AuthRename) FrameType() byte     { return FrameAuthRename }
func (*AuthPassword) FrameType() byte   { return FrameAuthPassword }
func (*AuthChange) FrameType() byte     { return FrameAuthChange }
func (*AuthDevices) FrameType() byte    { return FrameAuthDevices }
func (*AuthDeviceList) FrameType() byte { return FrameAuthDeviceList }
func (*AuthRevoke) FrameType() byte     { return FrameAuthRevoke }
func (*AuthDone) FrameType() byte       { return FrameAuthDone }

// An AuthRename asks for another user name. The answer is a GRANT.
type AuthRename struct {
	Name string // at most MaxAuthName bytes
}

func (m *AuthRename) Append(b []byte) []byte {
	return AppendString8(b, m.Name, MaxAuthName) // Name Length (8), Name (..)
}

func (m *AuthRename) parse(r *Reader) { m.Name = r.String8(MaxAuthName) }

// An AuthPassword begins to change the password. The answer is a CHALLENGE
// with the salt of the present one.
type AuthPassword struct{}

func (m *AuthPassword) Append(b []byte) []byte { return b }
func (m *AuthPassword) parse(*Reader)          {}

// An AuthChange proves the present password and brings the new one. The
// prehashes are secrets.
type AuthChange struct {
	Present [32]byte // prehash of the present password, with CHALLENGE's salt
	Salt    [16]byte // of the new one, random
	Prehash [32]byte // of the new one, with Salt
	SignOut bool     // revoke the account's other devices
}

func (m *AuthChange) Append(b []byte) []byte {
	b = append(b, m.Present[:]...)  // Present (256)
	b = append(b, m.Salt[:]...)     // Salt (128)
	b = append(b, m.Prehash[:]...)  // Prehash (256)
	return AppendBool(b, m.SignOut) // Sign Out (8)
}

func (m *AuthChange) parse(r *Reader) {
	r.Fill(m.Present[:])
	r.Fill(m.Salt[:])
	r.Fill(m.Prehash[:])
	m.SignOut = r.Bool()
}

// String, GoString and LogValue keep the prehashes out of logs.
func (AuthChange) String() string       { return "CHANGE{[redacted]}" }
func (AuthChange) GoString() string     { return "CHANGE{[redacted]}" }
func (AuthChange) LogValue() slog.Value { return slog.StringValue("CHANGE{[redacted]}") }

// An AuthDevices asks for the devices of the account.
type AuthDevices struct{}

func (m *AuthDevices) Append(b []byte) []byte { return b }
func (m *AuthDevices) parse(*Reader)          {}

// MaxDeviceList is how many devices a DEVICE LIST has at most.
const MaxDeviceList = 255

// An AuthDeviceList answers AuthDevices: those that are not revoked first, and
// of each kind the one whose token ends last first. Of more than fit, the last
// are left out.
type AuthDeviceList struct {
	Devices []DeviceEntry
}

// A DeviceEntry is one device of an account.
type DeviceEntry struct {
	Device  DeviceID
	Name    string // what the person calls it, at most MaxDeviceName bytes; sanitised by who shows it
	Created int64  // first log-in, Unix milliseconds
	Ends    int64  // end of its last token, Unix milliseconds
	Revoked bool
}

func (m *AuthDeviceList) Append(b []byte) []byte {
	mustFit(len(m.Devices), MaxDeviceList)
	b = append(b, uint8(len(m.Devices))) // Devices (8)
	for _, d := range m.Devices {
		b = append(b, d.Device[:]...)               // Device (64)
		b = AppendString8(b, d.Name, MaxDeviceName) // Name Length (8), Name (..)
		b = appendTime(b, d.Created)                // Created (64)
		b = appendTime(b, d.Ends)                   // Ends (64)
		b = AppendBool(b, d.Revoked)                // Revoked (8)
	}
	return b
}

func (m *AuthDeviceList) parse(r *Reader) {
	for range r.count8(MaxDeviceList) {
		var d DeviceEntry
		r.Fill(d.Device[:])
		d.Name = r.String8(MaxDeviceName)
		d.Created, d.Ends = r.time(), r.time()
		d.Revoked = r.Bool()
		m.Devices = append(m.Devices, d)
	}
}

// An AuthRevoke shuts another device of the account out, for ever.
type AuthRevoke struct {
	Device DeviceID
}

func (m *AuthRevoke) Append(b []byte) []byte {
	return append(b, m.Device[:]...) // Device (64)
}

func (m *AuthRevoke) parse(r *Reader) { r.Fill(m.Device[:]) }

// An AuthDone says that what was asked for is done and on disk.
type AuthDone struct{}

func (m *AuthDone) Append(b []byte) []byte { return b }
func (m *AuthDone) parse(*Reader)          {}
