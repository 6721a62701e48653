package account

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// Registration says who may make an account.
type Registration uint8

const (
	Open   Registration = iota // anybody on the network
	Invite                     // who has the join code's invite
	Closed                     // nobody; the operator adds people
)

func (r Registration) String() string {
	switch r {
	case Open:
		return "open"
	case Invite:
		return "invite"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("Registration(%d)", uint8(r))
}

// ParseRegistration reads "open", "invite" or "closed".
func ParseRegistration(s string) (Registration, error) {
	for _, r := range []Registration{Open, Invite, Closed} {
		if s == r.String() {
			return r, nil
		}
	}
	return 0, fmt.Errorf("registration %q: want open, invite or closed", s)
}

// reserved names would let somebody speak as the program or to everybody.
var reserved = []string{"admin", "system", "server", "authd", "root", "everyone", "here", "operator"}

// Config sets the rules. A limit of zero is its default; a negative one is no
// limit.
type Config struct {
	// Pepper is the key of the verifiers, kept apart from the database: who
	// has only one of the two cannot even guess. Required.
	Pepper [32]byte
	// Registration says who may make an account. Zero: anybody.
	Registration Registration
	// Invite is what the join code carries when registration is by invite.
	// Nil: none will do.
	Invite []byte

	// TokenLife is how long a certificate is valid. Default 30 days.
	TokenLife time.Duration
	// MaxShutOut is how many revoked devices whose certificates have not ended
	// yet an account may have and still get another one: each is an entry of the
	// realm's revocation list, which has room for realm.MaxRevoked. Default 32.
	MaxShutOut int

	// StartsPerMinute is how many log-ins, registrations and renewals one
	// source address may begin in a minute, all of them at once if it likes.
	// Default 60. An IPv6 /64 together has ten times as much: on a LAN it is
	// everybody's, so it cannot be held to one person's share.
	StartsPerMinute int
	// FreeFailures is how many log-ins to one account may fail from one
	// source before it has to wait. Default 5. The wait is minDelay and doubles
	// with each further failure up to maxDelay.
	FreeFailures int
	// LockAfter is how many log-ins to one account may fail in a row, over
	// all sources, before the operator has to unlock it. Default 100
	// (NIST SP 800-63B-4, 3.2.2). Who holds a certificate does not notice.
	LockAfter int

	// Rand yields ids, salts and serials. Nil: crypto/rand.Reader.
	Rand io.Reader
}

const (
	// maxDevices is how many devices with a renewable certificate an account has
	// at most. One whose certificate ended longer than realm.RenewGrace ago does
	// not count: whoever lost eight machines would otherwise be locked out by
	// them for ever.
	maxDevices = 8
	// maxNames is how many names an account may use up: the one it has, and those
	// it gave up that certificates still carry, which nobody else can take.
	maxNames = 5
	// The wait after failed log-ins; see Config.FreeFailures.
	minDelay = 2 * time.Second
	maxDelay = 15 * time.Minute
	// maxTracked bounds each of the tables that limits are kept in, in entries.
	maxTracked = 16384
)

// limit returns v, def if v is zero, and an unreachable number if negative.
func limit(v, def int) int {
	if v < 0 {
		return int(^uint(0) >> 1)
	}
	return cmp.Or(v, def)
}

func (c *Config) tokenLife() time.Duration { return cmp.Or(c.TokenLife, realm.TokenLife) }
func (c *Config) rand() io.Reader {
	if c.Rand == nil {
		return rand.Reader
	}
	return c.Rand
}

// A Refusal is a rule's no, with the code that travels.
type Refusal struct {
	Code       wire.Code
	RetryAfter time.Duration // 0: no use in waiting, or none needed
	Text       string        // what happened and what to do, without remote text
}

func (r *Refusal) Error() string { return r.Text }

func refuse(code wire.Code, text string) *Refusal { return &Refusal{Code: code, Text: text} }

func refuseRevoked() *Refusal {
	return refuse(wire.CodeRevoked, "this device was revoked: log out, then log in with a new key")
}

// A Registrar applies the rules. It is safe for concurrent use if Store and
// Config.Rand are: who waits for the disk keeps nobody else waiting, but for
// those who are at the same account.
type Registrar struct {
	cfg    Config
	store  Store
	starts *throttle
	delays *backoff
	sha256 func() hash.Hash // tests count how often

	seed  maphash.Seed
	turns [64]sync.Mutex // by a hash of who they are about
}

// turn waits until nobody else is at the account that goes by who, or at one
// that shares its mutex, and returns how to let the next one in. It is for what
// counts first and then writes: failures, devices, names.
func (r *Registrar) turn(who string) (end func()) {
	m := &r.turns[maphash.String(r.seed, who)%uint64(len(r.turns))]
	m.Lock()
	return m.Unlock
}

// New returns a Registrar over what store holds.
func New(cfg Config, store Store) *Registrar {
	return &Registrar{
		seed:   maphash.MakeSeed(),
		cfg:    cfg,
		store:  store,
		sha256: sha256.New,
		starts: newThrottle(limit(cfg.StartsPerMinute, 60), maxTracked),
		delays: newBackoff(limit(cfg.FreeFailures, 5), minDelay, maxDelay, maxTracked),
	}
}

// A Request begins a registration, a log-in, or a log-in with a one-time code
// and a new password.
type Request struct {
	Register bool
	Recover  bool
	Name     string
	Invite   []byte // or the proof of the code
	// Source is the verified address the request came from.
	Source netip.Addr
}

// An Attempt is a log-in, registration, recovery or change of password between
// its two halves.
type Attempt struct {
	// Salt goes to the client, which hashes its password with it.
	Salt [16]byte

	register bool
	proof    []byte // of a one-time code; nil: no recovery
	name     string
	source   netip.Addr
}

// A Grant is on record, and its certificate is now to be made.
type Grant struct {
	realm.Grant
	// Registered says that the account is new.
	Registered bool
}

// Start judges the first half of a log-in or registration. A log-in under an
// unknown name is answered like any other, with a salt that stays the same.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) Start(now time.Time, q Request) (*Attempt, error) {
	a := &Attempt{register: q.Register, name: q.Name, source: q.Source.WithZone("").Unmap()}
	if err := r.throttled(now, a.source); err != nil {
		return nil, err
	}
	if q.Register {
		if err := r.mayRegister(now, q); err != nil {
			return nil, err
		}
		if err := r.fill(a.Salt[:]); err != nil {
			return nil, err
		}
		return a, nil
	}

	if q.Recover {
		return r.startRecovery(now, a, q.Invite)
	}

	acct, known, err := r.find(q.Name)
	if err != nil {
		return nil, err
	}
	if err := r.mayTry(now, a, acct, known); err != nil {
		return nil, err
	}
	a.Salt = acct.Salt
	return a, nil
}

// Finish judges the second half: what the client made of the password, and
// the device it came from, whose key the connection has proved. When it
// returns a Grant, that is on disk.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) Finish(now time.Time, a *Attempt, prehash [32]byte, key wire.DeviceKey, deviceName string) (*Grant, error) {
	defer r.turn(a.name)()
	switch {
	case a.register:
		return r.register(now, a, prehash, key, deviceName)
	case a.proof != nil:
		return r.recover(now, a, prehash, key, deviceName)
	}
	acct, known, err := r.find(a.name)
	if err != nil {
		return nil, err
	}
	if err := r.verify(now, a, acct, known, prehash); err != nil {
		return nil, err
	}

	d, g, err := r.admission(now, acct, key, deviceName)
	if err != nil {
		return nil, err
	}
	if err := r.store.Admit(d, g); err != nil {
		return nil, r.refused(err)
	}
	r.delays.forget(delayKey{a.name, a.source})
	return &Grant{Grant: g}, nil
}

// verify judges a password. acct is the account of a.name, or made up.
func (r *Registrar) verify(now time.Time, a *Attempt, acct Account, known bool, prehash [32]byte) error {
	// Again: a hundred attempts can have been started side by side.
	if err := r.mayTry(now, a, acct, known); err != nil {
		return err
	}
	got := r.verifier(acct.Salt2, prehash)
	if subtle.ConstantTimeCompare(got[:], acct.Verifier[:]) != 1 || !known || acct.Disabled {
		if err := r.store.Fail(r.who(acct, a.name, known), now); err != nil {
			return err
		}
		r.delays.fail(now, delayKey{a.name, a.source})
		return refuse(wire.CodeBadCredentials, "wrong user name or password")
	}
	return nil
}

// Renew gives a known device a further certificate. The connection has proved
// the key, and Allowed has just returned the account for it.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) Renew(now time.Time, acct Account, key wire.DeviceKey, source netip.Addr) (*Grant, error) {
	if err := r.throttled(now, source.WithZone("").Unmap()); err != nil {
		return nil, err
	}
	g, err := r.grant(now, acct, key)
	if err != nil {
		return nil, err
	}
	if err := r.store.Renew(g); err != nil {
		return nil, r.refused(err)
	}
	return &Grant{Grant: g}, nil
}

// Allowed returns the account if the device is one of its devices and neither
// is shut out. A certificate says so too, but of the day it was made.
//
// The error is a *Refusal, or a failure of the store.
func (r *Registrar) Allowed(now time.Time, id wire.AccountID, key wire.DeviceKey) (Account, error) {
	acct, err := r.store.Get(id)
	if errors.Is(err, ErrNotFound) {
		return Account{}, refuse(wire.CodeUnknownAccount, "this realm does not know the account any more")
	}
	if err != nil {
		return Account{}, err
	}
	d, err := r.store.Device(key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Account{}, err
	}
	switch {
	case acct.Disabled:
		return Account{}, refuse(wire.CodeNotAuthenticated, "the operator has disabled this account")
	case err == nil && d.Revoked:
		return Account{}, refuseRevoked()
	case err != nil || d.Account != id || !r.renewable(now, d):
		return Account{}, refuse(wire.CodeNotAuthenticated, "this realm does not know the device any more: log in again")
	}
	return acct, nil
}

// Add makes an account for somebody, who then logs in with the password that
// prehash was made of under salt. It is the operator's way: the registration
// policy does not apply, the rules for names do.
func (r *Registrar) Add(now time.Time, name string, salt [16]byte, prehash [32]byte) (Account, error) {
	if err := r.NameFree(now, name); err != nil {
		return Account{}, err
	}
	a, err := r.newAccount(now, name, salt, prehash)
	if err != nil {
		return Account{}, err
	}
	if err := r.store.Add(a); err != nil {
		return Account{}, r.refused(err)
	}
	return a, nil
}

// Remove deletes the account and revokes its certificates. Its name stays in
// quarantine for a certificate's life, so that no two valid certificates of
// different people ever carry the same name. ErrNotFound.
func (r *Registrar) Remove(now time.Time, name string) error {
	a, err := r.store.Find(name)
	if err != nil {
		return err
	}
	return r.store.Remove(a.ID, now, now.Add(r.cfg.tokenLife()))
}

// renaming is how long after now a certificate may still be granted under the
// old name: by an authd that had read the account before it was renamed.
const renaming = time.Minute

// Rename gives the account another name. Devices, password and everything else
// stay; certificates carry the new name from their next renewal on. The old
// name is in quarantine as after Remove, for the account itself too.
// ErrNotFound, a *Refusal for the new name, or a failure of the store.
func (r *Registrar) Rename(now time.Time, old, name string) error {
	a, err := r.store.Find(old)
	if err != nil {
		return err
	}
	if err := r.NameFree(now, name); err != nil {
		return err
	}
	err = r.store.Rename(a.ID, name, now, r.quarantined(now), nil)
	if errors.Is(err, ErrNameTaken) {
		return r.refused(err)
	}
	return err
}

// quarantined returns until when a name that is given up at now is nobody's.
func (r *Registrar) quarantined(now time.Time) time.Time {
	return now.Add(r.cfg.tokenLife() + renaming)
}

// SetPassword gives the account the password that prehash was made of under
// salt, and unlocks it. Its devices stay. ErrNotFound.
func (r *Registrar) SetPassword(name string, salt [16]byte, prehash [32]byte) error {
	a, err := r.store.Find(name)
	if err != nil {
		return err
	}
	p, err := r.newPassword(salt, prehash)
	if err != nil {
		return err
	}
	return r.store.SetPassword(a.ID, p)
}

// newPassword returns what a new password is verified by.
func (r *Registrar) newPassword(salt [16]byte, prehash [32]byte) (Password, error) {
	p := Password{Salt: salt}
	if err := r.fill(p.Salt2[:]); err != nil {
		return Password{}, err
	}
	p.Verifier = r.verifier(p.Salt2, prehash)
	return p, nil
}

// Disable shuts the account out until Enable. ErrNotFound.
func (r *Registrar) Disable(now time.Time, name string) error {
	a, err := r.store.Find(name)
	if err != nil {
		return err
	}
	return r.store.Disable(a.ID, now)
}

// Enable takes Disable back. ErrNotFound.
func (r *Registrar) Enable(name string) error {
	a, err := r.store.Find(name)
	if err != nil {
		return err
	}
	return r.store.Enable(a.ID)
}

// Unlock lets the account be logged in to again after too many failures.
// ErrNotFound.
func (r *Registrar) Unlock(name string) error {
	a, err := r.store.Find(name)
	if err != nil {
		return err
	}
	return r.store.ForgetFailures(a.ID[:])
}

// Salt returns 16 random bytes for an account that Add is to make.
func (r *Registrar) Salt() (salt [16]byte, err error) {
	err = r.fill(salt[:])
	return salt, err
}

// CRL takes the next number of the revocation list and returns it with what
// belongs on the list: the revoked certificates that would still pass
// otherwise. (Whether a device may renew, authd looks up.)
func (r *Registrar) CRL(now time.Time) (number uint64, revoked []realm.Revoked, err error) {
	return r.store.NextCRL(now, now.Add(-realm.Tolerance))
}

// TokenLife returns how long a certificate is valid.
func (r *Registrar) TokenLife() time.Duration { return r.cfg.tokenLife() }

func (r *Registrar) throttled(now time.Time, source netip.Addr) error {
	if wait := r.starts.take(now, source); wait > 0 {
		return &Refusal{
			Code:       wire.CodeRateLimited,
			RetryAfter: wait,
			Text:       "too many attempts from this address, wait a little",
		}
	}
	return nil
}

func (r *Registrar) mayRegister(now time.Time, q Request) error {
	switch r.cfg.Registration {
	case Closed:
		return refuse(wire.CodeRegistrationClosed, "registration is closed: ask the operator for an account")
	case Invite:
		if len(r.cfg.Invite) == 0 || subtle.ConstantTimeCompare(q.Invite, r.cfg.Invite) != 1 {
			return refuse(wire.CodeInviteNeeded, "registration is by invite: use the join code the operator gives out")
		}
	}
	return r.NameFree(now, q.Name)
}

// NameFree reports by a nil error that an account may take the name. The error
// is a *Refusal, or a failure of the store.
func (r *Registrar) NameFree(now time.Time, name string) error {
	if err := realm.CheckName(name); err != nil {
		return refuse(wire.CodeBadName, "user names are 2 to 24 of a-z 0-9 . _ - and begin with a letter")
	}
	if slices.Contains(reserved, name) {
		return refuse(wire.CodeBadName, "this user name is reserved, choose another")
	}
	taken, err := r.store.Taken(name, now)
	if err != nil {
		return err
	}
	if taken {
		return r.refused(ErrNameTaken)
	}
	return nil
}

// find returns the account that goes by name. For an unknown name it makes
// one up, the same each time, so that everything after takes the same way.
func (r *Registrar) find(name string) (acct Account, known bool, err error) {
	sum := r.madeUp(name) // for a known name too: the work is to be the same
	acct, err = r.store.Find(name)
	if err == nil {
		return acct, true, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return Account{}, false, err
	}
	acct = Account{Name: name}
	copy(acct.Salt[:], sum[:])
	return acct, false, nil
}

// who names whose failures are counted. Unknown names are counted too, in
// 4,096 buckets: the same work and the same lock in the end, in bounded space.
func (r *Registrar) who(acct Account, name string, known bool) []byte {
	sum := r.madeUp(name) // for a known name too, as in find
	if known {
		return acct.ID[:]
	}
	return []byte{sum[30] & 0x0f, sum[31]}
}

// delayed refuses who failed too often from one source.
func (r *Registrar) delayed(now time.Time, a *Attempt) error {
	if wait := r.delays.wait(now, delayKey{a.name, a.source}); wait > 0 {
		return &Refusal{
			Code:       wire.CodeRateLimited,
			RetryAfter: wait,
			Text:       "too many failed log-ins, wait before the next",
		}
	}
	return nil
}

// mayTry refuses who failed too often.
func (r *Registrar) mayTry(now time.Time, a *Attempt, acct Account, known bool) error {
	if err := r.delayed(now, a); err != nil {
		return err
	}
	failures, err := r.store.Failures(r.who(acct, a.name, known))
	if err != nil {
		return err
	}
	if failures >= limit(r.cfg.LockAfter, 100) {
		return refuse(wire.CodeAccountLocked, "too many failed log-ins: the operator has to unlock this account (authd user unlock)")
	}
	return nil
}

func (r *Registrar) register(now time.Time, a *Attempt, prehash [32]byte, key wire.DeviceKey, deviceName string) (*Grant, error) {
	acct, err := r.newAccount(now, a.name, a.Salt, prehash)
	if err != nil {
		return nil, err
	}
	g, err := r.grant(now, acct, key)
	if err != nil {
		return nil, err
	}
	d := Device{Key: key, Account: acct.ID, Name: printable(deviceName), Created: now, Expires: g.NotAfter}
	if err := r.store.Create(acct, d, g); err != nil {
		return nil, r.refused(err)
	}
	return &Grant{Grant: g, Registered: true}, nil
}

func (r *Registrar) newAccount(now time.Time, name string, salt [16]byte, prehash [32]byte) (Account, error) {
	p, err := r.newPassword(salt, prehash)
	if err != nil {
		return Account{}, err
	}
	a := Account{Name: name, NameSeq: 1, Salt: p.Salt, Salt2: p.Salt2, Verifier: p.Verifier, Created: now}
	if err := r.fill(a.ID[:]); err != nil {
		return Account{}, err
	}
	return a, nil
}

// admission returns the device that logs in, if the account may have it, and
// its certificate.
func (r *Registrar) admission(now time.Time, acct Account, key wire.DeviceKey, name string) (Device, realm.Grant, error) {
	d, err := r.device(now, acct, key, name)
	if err != nil {
		return Device{}, realm.Grant{}, err
	}
	g, err := r.grant(now, acct, key)
	d.Expires = g.NotAfter
	return d, g, err
}

// device returns the device that logs in, if the account may have it.
func (r *Registrar) device(now time.Time, acct Account, key wire.DeviceKey, name string) (Device, error) {
	d, err := r.store.Device(key)
	switch {
	case err == nil && d.Account != acct.ID:
		return Device{}, r.refused(ErrDeviceTaken)
	case err == nil && d.Revoked:
		return Device{}, refuseRevoked()
	case err == nil && r.renewable(now, d):
		d.Name = printable(name)
		return d, nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return Device{}, err
	}

	devices, err := r.store.Devices(acct.ID)
	if err != nil {
		return Device{}, err
	}
	n, out := 0, 0
	for _, d := range devices {
		switch {
		case r.renewable(now, d):
			n++
		case d.Revoked && now.Before(d.Expires):
			out++
		}
	}
	if out >= limit(r.cfg.MaxShutOut, 32) {
		return Device{}, refuse(wire.CodeTooManyDevices, "too many devices of the account were shut out in the last month: wait until their tokens have ended")
	}
	if n >= maxDevices {
		return Device{}, refuse(wire.CodeTooManyDevices, "too many devices: revoke one first, on one of them (node sessions) or have the operator do it (authd device list, authd device revoke)")
	}
	return Device{Key: key, Account: acct.ID, Name: printable(name), Created: now}, nil
}

// renewable reports whether the device could get a certificate without a
// password.
func (r *Registrar) renewable(now time.Time, d Device) bool {
	return !d.Revoked && now.Before(d.Expires.Add(realm.RenewGrace))
}

// grant says what the device's next certificate is to say.
func (r *Registrar) grant(now time.Time, acct Account, key wire.DeviceKey) (realm.Grant, error) {
	now = now.Truncate(time.Second) // as exact as a certificate
	g := realm.Grant{
		Account:  acct.ID,
		Key:      key,
		Name:     acct.Name,
		NameSeq:  acct.NameSeq,
		From:     now,
		NotAfter: now.Add(r.cfg.tokenLife()),
	}
	var err error
	g.Serial, err = realm.NewSerial(r.cfg.rand())
	return g, err
}

// refused turns a store's no into the words for it; other errors and nil
// pass.
func (r *Registrar) refused(err error) error {
	switch {
	case errors.Is(err, ErrNameTaken):
		return refuse(wire.CodeNameTaken, "this user name is not available")
	case errors.Is(err, ErrDeviceTaken):
		return refuse(wire.CodeDeviceOfOtherAccount, "this device's key belongs to another account: use another data directory, or log out first")
	case errors.Is(err, ErrNotFound):
		return refuse(wire.CodeNotAuthenticated, "this realm does not know the account or device any more: log in again")
	case errors.Is(err, ErrChanged):
		return &Refusal{Code: wire.CodeUnavailable, RetryAfter: time.Second, Text: "the account was changed at the same moment: try again"}
	}
	return err
}

func (r *Registrar) verifier(salt2 [16]byte, prehash [32]byte) [32]byte {
	h := hmac.New(r.sha256, r.cfg.Pepper[:])
	h.Write(salt2[:])
	h.Write(prehash[:])
	return [32]byte(h.Sum(nil))
}

// madeUp returns what stands for the unknown name: always the same, and only
// this authd can compute it.
func (r *Registrar) madeUp(name string) [32]byte {
	key := hmac.New(r.sha256, r.cfg.Pepper[:])
	io.WriteString(key, "lc1 unknown names") // no verifier's input is this short
	h := hmac.New(r.sha256, key.Sum(nil))
	io.WriteString(h, name)
	return [32]byte(h.Sum(nil))
}

func (r *Registrar) fill(b []byte) error {
	if _, err := io.ReadFull(r.cfg.rand(), b); err != nil {
		return fmt.Errorf("reading random bytes: %w", err)
	}
	return nil
}

// printable returns s without what is not printable, cut to MaxDeviceName
// bytes.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s)
	for len(s) > MaxDeviceName {
		_, cut := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-cut]
	}
	return s
}
