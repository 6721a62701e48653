package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

var (
	// ErrUntrusted says that nobody has said that the realm may be trusted.
	ErrUntrusted = errors.New("the realm is not trusted")
	// ErrFingerprintChanged says that another realm answers than the one that
	// is trusted.
	ErrFingerprintChanged = errors.New("another realm answers")
	// ErrNoAnswer says that no authd answers at the address.
	ErrNoAnswer = errors.New("authd does not answer")
	// ErrVersion says that authd speaks another version of the protocol.
	ErrVersion = errors.New("authd speaks another version of the protocol")
	// ErrProtocol says that authd said something that may not be said.
	ErrProtocol = errors.New("authd does not keep to the protocol")
)

// An UntrustedError is ErrUntrusted with what a person needs to decide.
type UntrustedError struct {
	Realm    realm.Realm
	Address  netip.AddrPort
	Declined bool // the person was asked
}

func (e *UntrustedError) Error() string {
	if e.Declined {
		return fmt.Sprintf("%v: %q, fingerprint %v, at %v was declined", ErrUntrusted, e.Realm.Name, e.Realm.Fingerprint(), e.Address)
	}
	f := e.Realm.Fingerprint()
	return fmt.Sprintf("%v: %q, fingerprint %v, at %v: if that is what authd fingerprint prints there, start with --trust %v, or with --join and what authd code prints",
		ErrUntrusted, e.Realm.Name, f, e.Address, f)
}

func (e *UntrustedError) Unwrap() error { return ErrUntrusted }

// A FingerprintChangedError is ErrFingerprintChanged with what a person needs
// to find out why.
type FingerprintChangedError struct {
	PinnedName, FoundName string // the latter "" if only the flags ask for Found, and no authd was met
	Pinned, Found         realm.Fingerprint
	Since                 time.Time // when Pinned was first trusted
	At                    time.Time // when Found was found
	Address               netip.AddrPort
	// SameAddress says that the trusted realm's authd was last found at just
	// this address. Then its key has changed, or somebody has taken its place;
	// otherwise this may be no more than another realm on the same network.
	SameAddress bool
}

func (e *FingerprintChangedError) Error() string {
	if e.FoundName == "" {
		return fmt.Sprintf("another realm is trusted here than is asked for: trusted since %s is %q, fingerprint %v, asked for is %v: "+
			"leave --trust and --join out, or trust the other one from now on with node trust replace CODE",
			e.Since.Format(time.DateOnly), e.PinnedName, e.Pinned, e.Found)
	}
	return fmt.Sprintf("%v at %v: trusted since %s is %q, fingerprint %v; found on %s was %q, fingerprint %v: "+
		"if whoever runs authd says that this is right, node trust replace CODE with what authd code prints there", ErrFingerprintChanged,
		e.Address, e.Since.Format(time.DateOnly), e.PinnedName, e.Pinned, e.At.Format(time.DateOnly), e.FoundName, e.Found)
}

func (e *FingerprintChangedError) Unwrap() error { return ErrFingerprintChanged }

func changed(pin *Pin, found realm.Fingerprint, name string, addr netip.AddrPort) error {
	return &FingerprintChangedError{
		PinnedName: pin.Name, FoundName: name,
		Pinned: pin.Fingerprint(), Found: found,
		Since: pin.Since, At: time.Now(),
		Address: addr, SameAddress: addr == pin.Address,
	}
}

// A RefusedError says that a rule said no: authd's, or the same rule applied
// here before asking.
type RefusedError struct {
	Code       wire.Code
	RetryAfter time.Duration // 0: trying again is up to the person
	Text       string        // authd's words: sanitise before showing; "" if refused here
	Err        error         // what was wrong if refused here, such as a *realm.PasswordError
}

func (e *RefusedError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("%v: %v", e.Code, e.Err)
	case e.Text != "":
		return fmt.Sprintf("%v: authd says %q", e.Code, e.Text)
	}
	return e.Code.String()
}

func (e *RefusedError) Unwrap() error { return e.Err }

func refusedHere(code wire.Code, err error) error { return &RefusedError{Code: code, Err: err} }

// dialError sorts out why no connection came about.
func dialError(err error) error {
	if link.IsVersion(err) {
		return fmt.Errorf("%w (this program: %q): %w", ErrVersion, link.ALPNAuthd, err)
	}
	return connError(err)
}

// connError sorts out why a connection has ended.
func connError(err error) error {
	if e, ok := errors.AsType[*quic.TransportError](err); ok && e.Remote && e.ErrorCode.IsCryptoError() {
		// In TLS 1.3 this comes after the dial has succeeded.
		return refusedHere(wire.CodeNotAuthenticated, fmt.Errorf("authd does not accept this device's certificate: %w", err))
	}
	if code, ok := link.Closed(err); ok {
		switch code {
		case link.CloseRevoked:
			return refusedHere(wire.CodeRevoked, err)
		case link.CloseExpired:
			return refusedHere(wire.CodeNotAuthenticated, err)
		case link.CloseRefused:
			return refusedHere(wire.CodeUnavailable, err)
		}
		return err
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if e, ok := errors.AsType[*quic.TransportError](err); ok && e.Remote && e.ErrorCode == quic.ConnectionRefused {
		return refusedHere(wire.CodeUnavailable, err)
	}
	return err
}
