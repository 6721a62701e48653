package server

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"lanchat/authd/account"
	"lanchat/authd/mailbox"
	"lanchat/wire"
)

// mailKey has a device say which key its mail is sealed to, and returns it.
func (c *client) mailKey(conn *quic.Conn) []byte {
	c.l.t.Helper()
	key := bytes.Repeat(c.key[:1], 1216)
	want[*wire.AuthDone](c.l.t, conn, &wire.AuthMailKey{Public: key, Signature: wire.SignMailKey(c.key, c.l.srv.Realm().ID, key)})
	return key
}

// want has a request answered by an A.
func want[A wire.AuthMessage](t testing.TB, conn *quic.Conn, m wire.AuthMessage) A {
	t.Helper()
	answer := mustAsk(t, conn, m)
	a, ok := answer.(A)
	if !ok {
		t.Fatalf("%T is answered by %T %+v", m, answer, answer)
	}
	return a
}

// waiting returns what waits for a device, of all pages.
func waiting(t testing.TB, conn *quic.Conn) (items []wire.MailItem) {
	t.Helper()
	for after := uint64(0); ; {
		page := want[*wire.AuthMail](t, conn, &wire.AuthMailbox{After: after})
		items = append(items, page.Items...)
		if !page.More {
			return items
		}
		after = page.Items[len(page.Items)-1].ID
	}
}

func sealed(items []wire.MailItem) (all []string) {
	for _, i := range items {
		all = append(all, string(i.Sealed))
	}
	return all
}

func checkMail(t testing.TB, what string, items []wire.MailItem, want ...string) {
	t.Helper()
	if got := sealed(items); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// What is left for a device that is away waits for it, over a restart of authd,
// until the device says that it has it; one that is there is told.
func TestMailbox(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, ann *client) {
		wantGrant(t, ann.register("ann", "correct"))
		bob := ann.newDevice()
		wantGrant(t, bob.register("bob", "correct"))
		conn, bobs := ann.mustDial(), bob.mustDial()
		ann.mailKey(conn)
		key := bob.mailKey(bobs)
		bobs.CloseWithError(0, "")

		for _, q := range []*wire.AuthRecipient{{Name: "bob"}, {Account: bob.token().Account}} {
			keys := want[*wire.AuthMailKeys](t, conn, q)
			if len(keys.Devices) != 1 || !bytes.Equal(keys.Devices[0].Public, key) || !bytes.Equal(keys.Devices[0].Leaf, bob.grant.Leaf) ||
				wire.VerifyMailKey(bob.deviceKey(), l.srv.Realm().ID, key, keys.Devices[0].Signature) != nil {
				t.Errorf("%+v: got %+v", q, keys)
			}
		}
		if keys := want[*wire.AuthMailKeys](t, conn, &wire.AuthRecipient{Name: "nobody"}); len(keys.Devices) != 0 {
			t.Errorf("of nobody: got %+v", keys)
		}
		for i, text := range []string{"one", "two", "two again", "three"} {
			n := uint64(min(i+1, 2))
			if i == 3 {
				n = 3
			}
			want[*wire.AuthDone](t, conn, &wire.AuthDeposit{To: bob.deviceKey(), Number: n, Sealed: []byte(text)})
		}
		if got := l.srv.Stats().Mail; got.Items != 3 || got.Bytes != int64(len("onetwothree")) {
			t.Errorf("counted %+v", got)
		}
		l.away(time.Second)
		bobs = bob.mustDial()
		items := waiting(t, bobs)
		checkMail(t, "bob finds", items, "one", "two", "three")
		if !bytes.Equal(items[0].Leaf, ann.grant.Leaf) {
			t.Error("the sender's token is not there")
		}
		conn = ann.mustDial()
		checkMail(t, "ann finds", waiting(t, conn))

		// Nobody takes what is another's.
		want[*wire.AuthDone](t, conn, &wire.AuthTaken{IDs: []uint64{items[0].ID}})
		checkMail(t, "bob finds then", waiting(t, bobs), "one", "two", "three")
		want[*wire.AuthDone](t, bobs, &wire.AuthTaken{IDs: []uint64{items[0].ID, items[1].ID}})
		checkMail(t, "bob finds after he took two", waiting(t, bobs), "three")

		want[*wire.AuthDone](t, conn, &wire.AuthDeposit{To: bob.deviceKey(), Number: 4, Sealed: []byte("four")})
		if m, ok := pushed(t, bobs).(*wire.AuthMailbox); !ok || m.After != 0 {
			t.Errorf("bob is told %+v", m)
		}
	})
}

// A revoked or disabled device gets nothing, and nothing is kept for it.
func TestMailboxOfTheShutOut(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, ann *client) {
		wantGrant(t, ann.register("ann", "correct"))
		bob := ann.newDevice()
		wantGrant(t, bob.register("bob", "correct"))
		phone := bob.another("bob", "correct")
		conn, bobs, phones := ann.mustDial(), bob.mustDial(), phone.mustDial()
		wantRefusal(t, mustAsk(t, conn, &wire.AuthDeposit{To: bob.deviceKey(), Number: 1, Sealed: []byte("early")}), wire.CodeNoSuchDevice)
		ann.mailKey(conn)
		wantRefusal(t, mustAsk(t, conn, &wire.AuthDeposit{To: bob.deviceKey(), Number: 1, Sealed: []byte("early")}), wire.CodeNoSuchDevice)
		bob.mailKey(bobs)
		phone.mailKey(phones)
		for _, d := range []*client{bob, phone} {
			want[*wire.AuthDone](t, conn, &wire.AuthDeposit{To: d.deviceKey(), Number: 1, Sealed: []byte("hi")})
		}
		want[*wire.AuthDone](t, bobs, &wire.AuthRevoke{Device: phone.deviceKey().Device()})
		<-phones.Context().Done()
		if keys := want[*wire.AuthMailKeys](t, conn, &wire.AuthRecipient{Name: "bob"}); len(keys.Devices) != 1 {
			t.Errorf("%d devices of bob can be sent mail, want 1", len(keys.Devices))
		}
		wantRefusal(t, mustAsk(t, conn, &wire.AuthDeposit{To: phone.deviceKey(), Number: 2, Sealed: []byte("hi")}), wire.CodeNoSuchDevice)
		l.srv.sweepMail(time.Now())
		if got := l.srv.Stats().Mail; got.Items != 1 {
			t.Errorf("%d items wait, want 1", got.Items)
		}
		if err := account.New(account.Config{}, l.st).Disable(time.Now(), "bob"); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, mustAsk(t, bobs, &wire.AuthMailbox{}), wire.CodeNotAuthenticated)
		wantRefusal(t, mustAsk(t, conn, &wire.AuthDeposit{To: bob.deviceKey(), Number: 2, Sealed: []byte("hi")}), wire.CodeNoSuchDevice)
	})
}

// "Bounded per account in number, bytes and age."
func TestMailboxBounds(t *testing.T) {
	cfg := Config{Mailbox: mailbox.Config{Items: 4, Bytes: 4000, Sent: 3, SentBytes: 3500, Age: time.Hour}}
	bubble(t, cfg, func(t *testing.T, l *lab, ann *client) {
		wantGrant(t, ann.register("ann", "correct"))
		bob, cat := ann.newDevice(), ann.newDevice()
		wantGrant(t, bob.register("bob", "correct"))
		wantGrant(t, cat.register("cat", "correct"))
		conn, bobs, cats := ann.mustDial(), bob.mustDial(), cat.mustDial()
		ann.mailKey(conn)
		bob.mailKey(bobs)
		cat.mailKey(cats)
		put := func(conn *quic.Conn, to *client, n uint64, size int) wire.AuthMessage {
			return mustAsk(t, conn, &wire.AuthDeposit{To: to.deviceKey(), Number: n, Sealed: make([]byte, size)})
		}
		isFull := func(what string, m wire.AuthMessage) {
			t.Helper()
			if r := wantRefusal(t, m, wire.CodeMailboxFull); r.RetryAfter == 0 {
				t.Errorf("%s: when to try again is not said", what)
			}
		}
		for n := range uint64(3) {
			put(conn, bob, n, 10)
		}
		isFull("ann's fourth", put(conn, bob, 3, 10))
		isFull("ann's for another", put(conn, cat, 3, 10))
		put(cats, bob, 1, 10)
		isFull("the fifth for bob", put(cats, bob, 2, 10))
		want[*wire.AuthDone](t, bobs, &wire.AuthTaken{IDs: []uint64{waiting(t, bobs)[0].ID}})
		isFull("more bytes than bob may have", put(cats, bob, 2, 3980))
		put(cats, bob, 2, 10)

		time.Sleep(2 * time.Hour)
		l.srv.sweepMail(time.Now())
		checkMail(t, "bob finds two hours later", waiting(t, bobs))
		if _, ok := put(conn, bob, 9, 3400).(*wire.AuthDone); !ok {
			t.Error("there is no room after old mail was given up")
		}
		isFull("more bytes than ann may have", put(conn, cat, 1, 200))
	})
}

// A page fits a frame, however long the messages are.
func TestMailboxPages(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *lab, ann *client) {
		wantGrant(t, ann.register("ann", "correct"))
		conn := ann.mustDial()
		ann.mailKey(conn)
		var put []string
		for n := range uint64(70) {
			size := 100
			if n%10 == 0 {
				size = wire.MaxSealed
			}
			b := bytes.Repeat([]byte{byte(n)}, size)
			put = append(put, string(b))
			want[*wire.AuthDone](t, conn, &wire.AuthDeposit{To: ann.deviceKey(), Number: n, Sealed: b})
		}
		checkMail(t, "ann finds", waiting(t, conn), put...)
	})
}
