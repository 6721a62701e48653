// Package light has a node as authd sees one, for benchmarks and for tests that
// need many: a key, perhaps a token, and the conversation of package wire. The
// slow hash of the password, which is the node's work, is left out.
//
// Real nodes have node/login for this.
package light

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// A Node is one key of one account. It is for one goroutine at a time.
type Node struct {
	Name  string // of the account
	Key   ed25519.PrivateKey
	Grant *wire.AuthGrant // the token, nil before the first log-in
	// Password is what the account was made with.
	Password string

	id link.Identity // presents the token, or the bare key
}

// New returns a node without a token.
func New(name string) (*Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := realm.SelfSigned(key)
	if err != nil {
		return nil, err
	}
	return &Node{Name: name, Password: name, Key: key, id: link.Fixed(key, cert)}, nil
}

// PublicKey returns what authd knows the node by.
func (n *Node) PublicKey() wire.DeviceKey { return wire.KeyOf(n.Key.Public().(ed25519.PublicKey)) }

// ID returns the short form of PublicKey.
func (n *Node) ID() wire.DeviceID { return n.PublicKey().Device() }

// Identity presents the node in a handshake.
func (n *Node) Identity() link.Identity { return n.id }

// Dial connects to authd with the token, or without one if there is none. Any
// authd will do: who measures or breaks one has just started it.
func (n *Node) Dial(ctx context.Context, tr *quic.Transport, to netip.AddrPort) (*quic.Conn, error) {
	return link.DialAuthd(ctx, tr, to, n.id, func(certs []*x509.Certificate) error {
		_, err := realm.Candidate(certs, time.Now())
		return err
	})
}

// A Refusal is authd's no.
type Refusal struct{ *wire.AuthRefusal }

func (r *Refusal) Error() string { return fmt.Sprintf("refused: %v: %q", r.Code, r.Text) }

// Ask has a request answered that takes one frame each way.
func Ask(ctx context.Context, conn *quic.Conn, m wire.AuthMessage) (wire.AuthMessage, error) {
	return converse(ctx, conn, m)
}

// converse has one conversation on a stream: each further message is made of
// the answer before.
func converse(ctx context.Context, conn *quic.Conn, first wire.AuthMessage, next ...func(wire.AuthMessage) (wire.AuthMessage, error)) (answer wire.AuthMessage, err error) {
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.CancelRead(0)
	defer stream.Close()
	defer context.AfterFunc(ctx, func() { stream.SetDeadline(time.Now()) })()
	for m := first; ; {
		if err := link.WriteAuth(stream, m); err != nil {
			return nil, err
		}
		if answer, err = link.ReadAuth(stream); err != nil {
			return nil, err
		}
		if r, ok := answer.(*wire.AuthRefusal); ok {
			return nil, &Refusal{r}
		}
		if len(next) == 0 {
			return answer, nil
		}
		if m, err = next[0](answer); err != nil {
			return nil, err
		}
		next = next[1:]
	}
}

// Prehash stands for what a node's slow hash makes of the password under the
// salt that authd sent.
func Prehash(password string, salt [16]byte) [32]byte {
	return sha256.Sum256(append(salt[:], password...))
}

// LogIn logs in to the account, or with wire.AuthRegister makes it, on a
// connection that shows no token.
func (n *Node) LogIn(ctx context.Context, conn *quic.Conn, kind uint8) error {
	m, err := converse(ctx, conn, &wire.AuthStart{Kind: kind, Method: wire.AuthPrehash, Name: n.Name},
		func(m wire.AuthMessage) (wire.AuthMessage, error) {
			c, ok := m.(*wire.AuthChallenge)
			if !ok {
				return nil, fmt.Errorf("got %T, want a CHALLENGE", m)
			}
			return &wire.AuthFinish{Prehash: Prehash(n.Password, c.Salt), Device: "bench"}, nil
		})
	return n.take(m, err)
}

// Renew gets a new token on a connection that shows the old one.
func (n *Node) Renew(ctx context.Context, conn *quic.Conn) error {
	m, err := Ask(ctx, conn, &wire.AuthRenew{})
	return n.take(m, err)
}

// Rename gives the account another name, on a connection that shows the token.
func (n *Node) Rename(ctx context.Context, conn *quic.Conn, name string) error {
	m, err := Ask(ctx, conn, &wire.AuthRename{Name: name})
	if err := n.take(m, err); err != nil {
		return err
	}
	n.Name = name
	return nil
}

func (n *Node) take(m wire.AuthMessage, err error) error {
	if err != nil {
		return err
	}
	g, ok := m.(*wire.AuthGrant)
	if !ok {
		return fmt.Errorf("got %T, want a GRANT", m)
	}
	leaf, err1 := x509.ParseCertificate(g.Leaf)
	issuing, err2 := x509.ParseCertificate(g.Issuing)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	n.Grant, n.id = g, link.Fixed(n.Key, leaf, issuing)
	return nil
}

// Forget drops the token: the node is to log in again.
func (n *Node) Forget() error {
	cert, err := realm.SelfSigned(n.Key)
	if err != nil {
		return err
	}
	n.Grant, n.id = nil, link.Fixed(n.Key, cert)
	return nil
}

// Revocations returns the next revocation list that authd pushes.
func Revocations(ctx context.Context, conn *quic.Conn) (*wire.AuthCRL, error) {
	stream, err := conn.AcceptUniStream(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.CancelRead(0)
	defer context.AfterFunc(ctx, func() { stream.SetReadDeadline(time.Now()) })()
	m, err := link.ReadAuth(stream)
	if err != nil {
		return nil, err
	}
	crl, ok := m.(*wire.AuthCRL)
	if !ok {
		return nil, fmt.Errorf("got %T, want a CRL", m)
	}
	return crl, nil
}
