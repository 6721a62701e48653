package chat

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"lanchat/wire"
	"lanchat/wire/words"
)

// Two people who compare sixty digits, by voice or side by side, know that no
// third device sits between them: the digits come from the keys of all devices
// of both. What was compared is kept with the name it was earned under, and a
// device that turns up later undoes it, with a warning.

// verifiedKey is where the mark of an account is kept: the name then, a line
// feed, the digits of that person's half.
func verifiedKey(a wire.AccountID) string { return "verified/" + a.String() }

// halfDigits returns the thirty digits of a person's devices: six times five,
// each from five bytes of SHA-512("lc1 verify" ‖ realm ‖ account ‖ keys in
// order).
func (c *Core) halfDigits(p *person) string {
	keys := [][]byte{}
	for _, d := range p.devices {
		if !d.revoked {
			keys = append(keys, d.key[:])
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	h := sha512.New()
	h.Write([]byte("lc1 verify"))
	h.Write(c.cfg.Realm[:])
	h.Write(p.account[:])
	for _, k := range keys {
		h.Write(k)
	}
	sum := h.Sum(nil)
	groups := make([]string, 6)
	for i := range groups {
		n := binary.BigEndian.Uint64(append(make([]byte, 3), sum[5*i:5*i+5]...))
		groups[i] = fmt.Sprintf("%05d", n%100_000)
	}
	return strings.Join(groups, " ")
}

// verified returns the name under which a person's keys were compared; changed
// says that the keys are others now.
func (c *Core) verified(p *person) (name string, changed bool) {
	name, digits, _ := strings.Cut(c.personal[verifiedKey(p.account)], "\n")
	return name, name != "" && digits != c.halfDigits(p)
}

// verifiedWords says what is known of a person's keys.
func (c *Core) verifiedWords(p *person) string {
	switch name, changed := c.verified(p); {
	case name == "":
		return "keys not compared: /verify " + p.name
	case changed:
		return "the keys changed since you compared them: /verify " + p.name
	case name != p.name:
		return "keys compared with " + name + ", who is called " + p.name + " now"
	}
	return "keys compared"
}

func (c *Core) doVerify(k *call) {
	p, me := c.mustFindPerson(k.args[0], k.ref), c.people.accounts[c.self.account]
	switch {
	case p == nil:
		return
	case p == me:
		c.refuse(k.ref, "bad_argument", "that is you: choose somebody else to compare keys with")
		return
	}
	answer := ""
	if len(k.args) > 1 {
		answer = strings.ToLower(k.args[1])
	}
	switch answer {
	case "yes":
		c.setPersonal(verifiedKey(p.account), p.name+"\n"+c.halfDigits(p))
		c.show(Notice{Code: "verified", Text: "noted: these are the keys of " + p.name + "; a new device of theirs will be told to you", Ref: k.ref})
		return
	case "no":
		c.setPersonal(verifiedKey(p.account), "")
		c.show(Notice{Code: "verified", Text: "forgotten: the keys of " + p.name + " are not compared", Ref: k.ref})
		return
	case "":
	default:
		c.refuse(k.ref, "bad_argument", "usage: /verify user [yes|no]")
		return
	}
	both := []*person{me, p}
	slices.SortFunc(both, func(a, b *person) int { return cmp.Compare(a.account.String(), b.account.String()) })
	digits := c.halfDigits(both[0]) + " " + c.halfDigits(both[1])
	half := len(digits) / 2
	devices := func(p *person) int {
		return len(slices.DeleteFunc(slices.Clone(p.devices), func(d *device) bool { return d.revoked }))
	}
	text := fmt.Sprintf("compare with %s, by voice or side by side:\n%s\n%s\nyou have %s here, %s has %d; both sides must know the same ones\nall equal: /verify %s yes",
		p.name, digits[:half], strings.TrimSpace(digits[half:]), words.Count(devices(me), "device", "devices"), p.name, devices(p), p.name)
	if name, _ := c.verified(p); name != "" {
		text += "; until now: " + c.verifiedWords(p)
	}
	c.show(Notice{Code: "verify", Text: text, Ref: k.ref, Data: map[string]string{"user": p.name, "digits": digits}})
}

// warnOfKey tells of a new device of a person whose keys were compared.
func (c *Core) warnOfKey(p *person, before bool) {
	if name, changed := c.verified(p); changed && !before {
		c.show(Notice{Code: "keys_changed", Text: fmt.Sprintf("%s has another device than those you compared with %s: compare again with /verify %s", p.name, name, p.name)})
	}
}
