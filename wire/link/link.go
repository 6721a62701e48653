// Package link is what every QUIC connection here has in common: the rules of
// TLS, the settings of QUIC, a socket that survives a change of network,
// frames, and the reasons for closing.
//
// It is not a conversation: what is said on the streams is in package wire
// (auth.go with authd, peer.go between nodes), and who says it in authd/server
// and node/host. It opens no socket and starts no goroutine of its own.
//
// Start at [ListenPeers] and [DialPeer], or [ListenAuthd] and [DialAuthd].
//
// Two things are easily forgotten. In TLS 1.3 the dialler finishes first, so
// Dial returns before the other side has judged the dialler's certificate:
// only an answer on a stream shows that one is accepted. And a Transport that
// is closed says nothing to anybody: close every connection with
// [CloseGoodbye] first.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"lanchat/wire"
	"lanchat/wire/realm"
)

// Why a connection is closed: the application error codes of QUIC. 0 is left
// out, since it is what is said by accident.
const (
	CloseGoodbye  quic.ApplicationErrorCode = 1 // the program ends
	CloseReplaced quic.ApplicationErrorCode = 2 // another connection between the two takes over
	CloseRevoked  quic.ApplicationErrorCode = 3 // the other's token is revoked
	CloseProtocol quic.ApplicationErrorCode = 4 // something was said that may not be said
	CloseRefused  quic.ApplicationErrorCode = 5 // too many connections, or not welcome
	CloseExpired  quic.ApplicationErrorCode = 6 // the other's token has expired
	CloseIdle     quic.ApplicationErrorCode = 7 // unused; dial again when needed
)

// Closed returns the code the other side closed the connection with.
func Closed(err error) (code quic.ApplicationErrorCode, ok bool) {
	if e, is := errors.AsType[*quic.ApplicationError](err); is && e.Remote {
		return e.ErrorCode, true
	}
	return 0, false
}

// NewTransport returns a transport on pc, whose passing failures it turns into
// loss (see Soft). reset makes a restarted program end its old connections at
// once; it is a secret, kept on disk; nil sends no such resets. The caller may
// set VerifySourceAddress and ConnContext before use, and closes first the
// connections, then the transport, then pc.
func NewTransport(pc net.PacketConn, reset *quic.StatelessResetKey) *quic.Transport {
	return &quic.Transport{
		Conn:               Soft(pc),
		ConnectionIDLength: 8,
		StatelessResetKey:  reset,
	}
}

// RetryAlways makes every dialler prove its address first, for one round trip:
// nobody can begin handshakes in the name of others.
func RetryAlways(net.Addr) bool { return true }

// RetryAbove returns a function that demands that proof only while more than
// perSecond handshakes begin.
func RetryAbove(perSecond int) func(net.Addr) bool {
	l := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	return func(net.Addr) bool { return !l.Allow() }
}

// AuthdConfig returns the settings of authd's side.
func AuthdConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           5 * time.Second,
		MaxIdleTimeout:                 15 * time.Second,
		KeepAlivePeriod:                5 * time.Second,
		InitialStreamReceiveWindow:     64 << 10,
		MaxStreamReceiveWindow:         64 << 10,
		InitialConnectionReceiveWindow: 256 << 10,
		MaxConnectionReceiveWindow:     256 << 10,
		MaxIncomingStreams:             4,
		MaxIncomingUniStreams:          -1,
	}
}

// AuthdDialConfig returns the settings of a node's side towards authd, which
// opens unidirectional streams only: for what it pushes.
func AuthdDialConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           5 * time.Second,
		MaxIdleTimeout:                 15 * time.Second,
		KeepAlivePeriod:                5 * time.Second,
		InitialStreamReceiveWindow:     128 << 10,
		MaxStreamReceiveWindow:         128 << 10,
		InitialConnectionReceiveWindow: 512 << 10,
		MaxConnectionReceiveWindow:     512 << 10,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          4,
	}
}

// PeerConfig returns the settings between nodes. Streams that the other side
// opens count until ReleaseStreamCredit is called on them, so a slow consumer
// can't be flooded: it must be called.
func PeerConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           5 * time.Second,
		MaxIdleTimeout:                 15 * time.Second,
		KeepAlivePeriod:                5 * time.Second,
		InitialStreamReceiveWindow:     256 << 10,
		MaxStreamReceiveWindow:         512 << 10,
		InitialConnectionReceiveWindow: 512 << 10,
		MaxConnectionReceiveWindow:     2 << 20,
		MaxIncomingStreams:             16,
		MaxIncomingUniStreams:          -1,
		RequireStreamCreditRelease:     true,
		EnableDatagrams:                true,
	}
}

// ListenPeers accepts nodes of the realm. t must not listen yet.
func ListenPeers(t *quic.Transport, id Identity, v *realm.Verifier, now func() time.Time) (*quic.Listener, error) {
	return t.Listen(PeerTLS(id, v, now, nil), PeerConfig())
}

// DialPeer connects to the node at addr, which must be the device want, and
// returns its token. The other side has not yet judged this one's when it
// returns.
func DialPeer(ctx context.Context, t *quic.Transport, addr netip.AddrPort, id Identity, v *realm.Verifier,
	now func() time.Time, want wire.DeviceID) (*quic.Conn, *realm.Token, error) {
	return dialPeer(ctx, t, addr, PeerTLS(id, v, now, &want), v, now)
}

// DialAny is DialPeer for an address that a person gave: whichever device of
// the realm answers there.
func DialAny(ctx context.Context, t *quic.Transport, addr netip.AddrPort, id Identity, v *realm.Verifier,
	now func() time.Time) (*quic.Conn, *realm.Token, error) {
	return dialPeer(ctx, t, addr, PeerTLS(id, v, now, nil), v, now)
}

func dialPeer(ctx context.Context, t *quic.Transport, addr netip.AddrPort, rules *tls.Config, v *realm.Verifier,
	now func() time.Time) (*quic.Conn, *realm.Token, error) {
	conn, err := t.Dial(ctx, net.UDPAddrFromAddrPort(addr), rules, PeerConfig())
	if err != nil {
		return nil, nil, err
	}
	token, err := PeerToken(conn, v, now())
	if err != nil { // revoked this very moment
		conn.CloseWithError(CloseRefused, "")
		return nil, nil, err
	}
	return conn, token, nil
}

// PeerToken returns the token of the other side of a connection between nodes.
func PeerToken(conn *quic.Conn, v *realm.Verifier, now time.Time) (*realm.Token, error) {
	return v.Device(certificates(conn), now)
}

// ListenAuthd accepts nodes that want to register, log in or renew. t must not
// listen yet.
func ListenAuthd(t *quic.Transport, id Identity, v *realm.Verifier, now func() time.Time) (*quic.Listener, error) {
	return t.Listen(AuthdTLS(id, v, now), AuthdConfig())
}

// AuthdClient returns who is at the other side of a connection that authd
// accepted: the device's key, and its token unless it came with a self-signed
// certificate. The token may have expired up to realm.RenewGrace ago. The
// handshake has judged all this with v before; it is asked again since a
// revocation list may have come meanwhile.
func AuthdClient(conn *quic.Conn, v *realm.Verifier, now time.Time) (wire.DeviceKey, *realm.Token, error) {
	return authdClient(certificates(conn), v, now, realm.NewcomerKey)
}

func authdClient(certs []*x509.Certificate, v *realm.Verifier, now time.Time,
	newcomer func([]*x509.Certificate) (wire.DeviceKey, error)) (wire.DeviceKey, *realm.Token, error) {
	if key, err := newcomer(certs); err == nil {
		return key, nil, nil
	}
	token, err := v.Renewable(certs, now)
	if err != nil {
		return wire.DeviceKey{}, nil, err
	}
	return token.Key, token, nil
}

// DialAuthd connects to the authd at addr, whose certificates verify judges
// during the handshake. Nothing has been said to authd when it returns, and
// authd has not yet judged this side's certificate.
func DialAuthd(ctx context.Context, t *quic.Transport, addr netip.AddrPort, id Identity,
	verify func([]*x509.Certificate) error) (*quic.Conn, error) {
	return t.Dial(ctx, net.UDPAddrFromAddrPort(addr), AuthdDialTLS(id, verify), AuthdDialConfig())
}

func certificates(conn *quic.Conn) []*x509.Certificate {
	return conn.ConnectionState().TLS.PeerCertificates
}

// The protocols, as ALPN names them. The number is the version: there is no
// other negotiation, and programs of different versions don't connect (TLS
// alert 120, see IsVersion).
const (
	ALPNAuthd = "lanchat-auth/1"
	ALPNPeer  = "lanchat-peer/1"
)

// IsVersion reports whether a dial failed since the other side speaks another
// version of the protocol.
func IsVersion(err error) bool {
	e, ok := errors.AsType[*quic.TransportError](err)
	const noApplicationProtocol = 0x100 + 120 // RFC 9001 4.8, RFC 7301 3.2
	return ok && e.ErrorCode == noApplicationProtocol
}

// serverName is what every ClientHello names. It says nothing; without it
// quic-go would send the address.
const serverName = "lanchat"

// An Identity returns the certificate to present. It is asked anew for every
// handshake, from several goroutines, so a renewed token is used at once.
type Identity func() (*tls.Certificate, error)

// Fixed returns the identity that never changes. chain is leaf first.
func Fixed(key any, chain ...*x509.Certificate) Identity {
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return func() (*tls.Certificate, error) { return c, nil }
}

// ErrWrongDevice says that a valid member answers at the address of another.
var ErrWrongDevice = errors.New("another device answers at this address")

// PeerTLS returns the rules of TLS between nodes, for listening and dialling.
// id presents the token and its issuer. want is the device to be dialled; nil accepts every device of the realm and
// is for listening.
func PeerTLS(id Identity, v *realm.Verifier, now func() time.Time, want *wire.DeviceID) *tls.Config {
	return base(ALPNPeer, id, func(certs []*x509.Certificate) error {
		t, err := v.Device(certs, now())
		if err == nil && want != nil && t.Device != *want {
			err = fmt.Errorf("%w: %v, want %v", ErrWrongDevice, t.Device, *want)
		}
		return err
	})
}

// AuthdTLS returns the rules of TLS for authd: whoever has a token of the
// realm, or none at all but a key, may connect. What they may ask for then is
// the server's to say (AuthdClient). id presents authd's certificate and the
// root, from which a node at first contact learns the realm.
func AuthdTLS(id Identity, v *realm.Verifier, now func() time.Time) *tls.Config {
	return base(ALPNAuthd, id, func(certs []*x509.Certificate) error {
		_, _, err := authdClient(certs, v, now(), realm.Newcomer)
		return err
	})
}

// AuthdDialTLS returns the rules of TLS for dialling authd. verify judges
// authd's certificates, leaf first.
func AuthdDialTLS(id Identity, verify func([]*x509.Certificate) error) *tls.Config {
	return base(ALPNAuthd, id, verify)
}

// base returns what all have in common. There are no host names here, so the
// library's own verification is off (InsecureSkipVerify) and everything is
// checked in VerifyConnection, which runs on both sides in every handshake.
// There is no resumption: it would skip the chain.
func base(alpn string, id Identity, verify func([]*x509.Certificate) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		ServerName:             serverName,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id() },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.DidResume {
				return errors.New("resumed connection")
			}
			return verify(cs.PeerCertificates)
		},
	}
}
