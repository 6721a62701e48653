package chat_test

import (
	"testing"
	"time"

	"lanchat/node/chat"
	"lanchat/wire/realm"
)

// revoke gives a person's node a revocation list that names these tokens.
func (n *node) revoke(serials ...realm.Serial) {
	n.core.HandleRevoked(n.l.now, func(s realm.Serial) bool {
		for _, r := range serials {
			if r == s {
				return true
			}
		}
		return false
	})
	n.l.settle()
}

func TestRevoked(t *testing.T) {
	l := newLAN(t)
	for i, name := range []string{"ann", "bob", "cat"} {
		n := l.add(name)
		n.token.Serial = realm.Serial{byte(i + 1)}
	}
	l.stored(t)
	ann, bob := l.node("ann"), l.node("bob")

	left := func(n *node) (users []string) {
		for _, p := range shown[chat.Peer](n) {
			if p.State == "left" && p.Cause == "revoked" {
				users = append(users, p.User)
			}
		}
		return users
	}
	l.clear()
	ann.revoke(realm.Serial{9})
	checkTexts(t, "nobody's token", left(ann), nil)
	ann.revoke(realm.Serial{9}, bob.token.Serial)
	checkTexts(t, "bob's token", left(ann), []string{"bob"})
	ann.revoke(realm.Serial{9}, bob.token.Serial)
	checkTexts(t, "the next list, with bob's still", left(ann), []string{"bob"})

	// Taken back in, and shut out again.
	l.unlink(ann, bob)
	ann.revoke()
	l.link(ann, bob)
	if n := len(shown[chat.Peer](ann)); n != 2 {
		t.Errorf("ann saw %d events of peers, want bob left and back", n)
	}
	ann.revoke(bob.token.Serial)
	checkTexts(t, "shut out again", left(ann), []string{"bob", "bob"})

	// Who is not there is not spoken of, and is known after a restart.
	cat := l.node("cat")
	l.unlink(ann, cat)
	l.clear()
	ann.start()
	ann.revoke(cat.token.Serial)
	checkTexts(t, "cat was not there", left(ann), nil)
	l.pass(time.Second)
	if !ann.core.Revoked(cat.token.Device) || ann.core.Revoked(bob.token.Device) {
		t.Error("after a restart the list names cat's device only")
	}
}
