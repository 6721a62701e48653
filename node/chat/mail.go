package chat

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"lanchat/wire"
)

// Reliable messages to a person who is away wait at authd, too, sealed to each
// of the person's devices, so that the two need never be online together; see
// wire/mailbox.go. They stay in the outbox until a device has acknowledged them,
// which it does over a link or, if there is none, by mail.
//
// What waits at authd is not remembered over a restart, nor over authd's: it is
// left there again, and authd keeps it once.

const (
	mailSoon  = 500 * time.Millisecond // before mail is left for devices without a link
	mailAgain = 10 * time.Minute       // after authd could not take it
	keysFor   = 10 * time.Minute       // that mail keys are good for
)

// AskMail puts a request about mail to authd; the answer comes by
// HandleMailAnswer.
type AskMail struct {
	Question uint64
	Message  wire.AuthMessage
}

func (AskMail) send() {}

// A MailRefusal is authd's no to a request about mail.
type MailRefusal struct {
	Code       wire.Code
	RetryAfter time.Duration
}

func (r *MailRefusal) Error() string { return r.Code.String() }

// mail is the person's own mailbox, and who asks authd for what.
type mail struct {
	private  hpke.PrivateKey
	up       bool // authd is there and knows the key of this device
	fetching bool
	again    bool // something came meanwhile
	asked    map[uint64]func(now time.Time, m wire.AuthMessage, err error)
}

// outgoing is the mail for one person.
type outgoing struct {
	planned bool
	busy    bool
	keys    map[wire.DeviceID]hpke.PublicKey
	keysAt  time.Time
	left    map[wire.DeviceID]uint64 // last number left at authd for a device
	owed    map[wire.DeviceID]uint64 // acknowledgements to be left, 0: none
	told    uint64                   // last number the person here was told of
}

func newOutgoing(last uint64) outgoing {
	return outgoing{left: map[wire.DeviceID]uint64{}, owed: map[wire.DeviceID]uint64{}, told: last}
}

// mailKey derives the key that mail for this device is sealed to from the
// device key, so that it is lost and kept with that.
func (c *Core) mailKey() (hpke.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, c.cfg.Key.Seed(), nil, "lc1 mailbox", 32)
	if err != nil {
		return nil, err
	}
	return hpke.MLKEM768X25519().DeriveKeyPair(seed)
}

func mailInfo(id wire.RealmID, to wire.DeviceKey) []byte {
	return slices.Concat([]byte(wire.MailContext), id[:], to[:])
}

func (c *Core) sealMail(to *device, key hpke.PublicKey, m *wire.Mail) ([]byte, error) {
	m.From = c.self.key
	return hpke.Seal(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), mailInfo(c.cfg.Realm, to.key), m.Sign(nil, c.cfg.Key, c.cfg.Realm, to.key))
}

// askMail puts a request to authd; then is called once with the answer.
func (c *Core) askMail(m wire.AuthMessage, then func(now time.Time, m wire.AuthMessage, err error)) {
	c.nextID++
	c.mail.asked[c.nextID] = then
	c.send(AskMail{Question: c.nextID, Message: m})
}

// HandleMailAnswer takes the answer to an AskMail: a *MailRefusal if authd said
// no, another error if there is no authd.
func (c *Core) HandleMailAnswer(now time.Time, question uint64, m wire.AuthMessage, err error) {
	if then, ok := c.mail.asked[question]; ok {
		delete(c.mail.asked, question)
		then(now, m, err)
	}
}

// MailUp says that there is a session with authd: it is told the key, asked for
// what waits, and given what is to wait for others.
func (c *Core) MailUp(now time.Time) {
	public := c.mail.private.PublicKey().Bytes()
	c.askMail(&wire.AuthMailKey{Public: public, Signature: wire.SignMailKey(c.cfg.Key, c.cfg.Realm, public)}, func(now time.Time, _ wire.AuthMessage, err error) {
		if err != nil {
			return // an authd that keeps no mail, or gone again
		}
		c.mail.up, c.mail.fetching = true, false
		c.HandleMailbox(now)
		for _, d := range c.direct {
			clear(d.mail.left)
			d.mail.keys, d.mail.busy = nil, false
			c.planMail(now, d, mailSoon)
		}
	})
}

// MailDown says that the session has ended.
func (c *Core) MailDown() { c.mail.up = false }

// ---- receiving

// HandleMailbox fetches what waits at authd: it has said that something does.
func (c *Core) HandleMailbox(now time.Time) {
	switch {
	case !c.mail.up:
	case c.mail.fetching:
		c.mail.again = true
	default:
		c.mail.fetching = true
		c.fetchMail(0)
	}
}

func (c *Core) fetchMail(after uint64) {
	c.askMail(&wire.AuthMailbox{After: after}, func(now time.Time, m wire.AuthMessage, err error) {
		page, ok := m.(*wire.AuthMail)
		if err != nil || !ok {
			c.mail.fetching = false
			return
		}
		c.takeMail(now, page.Items)
		switch n := len(page.Items); {
		case page.More && n > 0:
			c.fetchMail(page.Items[n-1].ID)
		case c.mail.again:
			c.mail.again = false
			c.fetchMail(0)
		default:
			c.mail.fetching = false
		}
	})
}

// takeMail takes what waited, and has authd forget what need not wait longer:
// after this turn's records are on disk.
func (c *Core) takeMail(now time.Time, items []wire.MailItem) {
	var taken wire.AuthTaken
	for _, i := range items {
		if c.openMail(now, &i) {
			taken.IDs = append(taken.IDs, i.ID)
		}
	}
	if len(taken.IDs) > 0 {
		c.askMail(&taken, func(time.Time, wire.AuthMessage, error) {}) // if it fails it all comes again
	}
}

// openMail takes one message, and reports whether authd may forget it.
func (c *Core) openMail(now time.Time, i *wire.MailItem) bool {
	b, err := hpke.Open(c.mail.private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), mailInfo(c.cfg.Realm, c.self.key), i.Sealed)
	if err != nil {
		c.stats.Malformed++
		return true
	}
	m, err := wire.ParseMail(b, c.cfg.Realm, c.self.key)
	if err != nil {
		c.stats.Malformed++
		return true
	}
	dev := c.people.devices[m.From.Device()]
	if t, err := c.cfg.Judge(i.Leaf, i.Issuing); err == nil && t.Key == m.From && (dev == nil || dev.serial != t.Serial) {
		dev = c.met(now, t)
	}
	switch {
	case dev == nil || dev.key != m.From:
		return false // who that is may turn out while it waits
	case dev.revoked, dev.id == c.self.device, m.Kind != wire.MailAck && (m.Kind == wire.MailCopy) != (dev.person.account == c.self.account):
		c.stats.Forbidden++
		return true
	case m.Kind == wire.MailAck:
		if err := c.handleDirectAck(now, dev, m.Body); err != nil {
			c.stats.Malformed++
		}
		return true
	}
	return c.takeMessage(now, dev, m)
}

// takeMessage takes a message, or a copy, from the mailbox at its turn, and
// reports whether it need not wait any longer: it is there now, or was before.
func (c *Core) takeMessage(now time.Time, dev *device, m *wire.Mail) bool {
	number, handle := uint64(0), c.handleDirect
	if m.Kind == wire.MailCopy {
		if cp, err := wire.ParseCopy(m.Body); err == nil {
			number, handle = cp.Number, c.handleCopy
		}
	} else if d, err := wire.ParseDirectMessage(m.Body); err == nil {
		number = d.Message.Number
	}
	if m.After < number && m.After > c.received[dev.id] {
		return false // that one comes over a link, or by mail that is on its way
	}
	if err := handle(now, dev, m.Body); err != nil {
		c.stats.Malformed++
	}
	return true
}

// oweDirectAck tells a device what has come of its messages, over its link or by
// mail.
func (c *Core) oweDirectAck(now time.Time, dev *device) {
	n := c.received[dev.id]
	if dev.linked {
		ack := wire.DirectAck{Number: n}
		c.send(Push{To: dev.id, Type: wire.FrameDirectAck, Body: ack.Append(nil)})
		return
	}
	d := c.directWith(dev.person)
	d.mail.owed[dev.id] = n
	c.planMail(now, d, mailSoon)
}

// ---- sending

// planMail has mail for a person left at authd after a while, if there is any
// then.
func (c *Core) planMail(now time.Time, d *direct, wait time.Duration) {
	if d.mail.planned || !c.mail.up {
		return
	}
	d.mail.planned = true
	c.after(now, wait, func(now time.Time) {
		d.mail.planned = false
		c.leaveMail(now, d)
	})
}

// leaveMail leaves the next message for a person at authd, if there is one: one
// at a time, in order.
func (c *Core) leaveMail(now time.Time, d *direct) {
	o := &d.mail
	if o.busy || !c.mail.up || !c.hasMail(d) {
		return
	}
	if now.Sub(o.keysAt) > keysFor || o.keys == nil {
		c.askKeys(d)
		return
	}
	for _, dev := range d.person.devices {
		key := o.keys[dev.id]
		if key == nil || !c.mailed(dev) {
			continue
		}
		if n := o.owed[dev.id]; n > 0 {
			ack := wire.DirectAck{Number: n}
			c.deposit(d, dev, key, n|ackBit, &wire.Mail{Kind: wire.MailAck, Body: ack.Append(nil)}, func(time.Time) {
				if o.owed[dev.id] == n {
					delete(o.owed, dev.id)
				}
			})
			return
		}
		wait := d.queue.After(max(d.acked[dev.id], o.left[dev.id]))
		if len(wait) == 0 || len(wait[0].Body) > wire.MaxMailedBody {
			continue // a longer one waits here, and so do those behind it
		}
		m := wait[0]
		before := d.queue.Before(m.Number)
		if before <= d.acked[dev.id] {
			before = 0
		}
		kind, own := uint8(wire.MailMessage), d.person.account == c.self.account
		if own {
			kind = wire.MailCopy
		}
		c.deposit(d, dev, key, m.Number, &wire.Mail{Kind: kind, After: before, Body: m.Body}, func(now time.Time) {
			o.left[dev.id] = max(o.left[dev.id], m.Number)
			if m.Number > o.told && !own {
				o.told = m.Number
				c.show(Notice{Code: "kept", Text: "authd keeps your message to " + d.person.name + ", sealed, until " + d.person.name + " fetches it",
					Data: map[string]string{"chat": "@" + d.person.name, "id": MessageID(m.ID).String()}})
			}
		})
		return
	}
}

// ackBit keeps the numbers of acknowledgements apart from those of messages.
const ackBit = 1 << 63

// hasMail reports whether something is to be left for a device without a link.
func (c *Core) hasMail(d *direct) bool {
	return slices.ContainsFunc(d.person.devices, func(dev *device) bool {
		return c.mailed(dev) && (d.mail.owed[dev.id] > 0 || len(d.queue.After(max(d.acked[dev.id], d.mail.left[dev.id]))) > 0)
	})
}

// mailed reports whether mail is left for a device: there is no better way.
func (c *Core) mailed(dev *device) bool {
	return !dev.linked && !dev.revoked && dev.id != c.self.device
}

// askKeys asks what mail for a person is sealed to, and goes on.
func (c *Core) askKeys(d *direct) {
	d.mail.busy = true
	c.askMail(&wire.AuthRecipient{Account: d.person.account}, func(now time.Time, m wire.AuthMessage, err error) {
		d.mail.busy = false
		list, ok := m.(*wire.AuthMailKeys)
		if err != nil || !ok {
			return
		}
		d.mail.keys, d.mail.keysAt = map[wire.DeviceID]hpke.PublicKey{}, now
		for _, k := range list.Devices {
			dev, key, err := c.mailDevice(now, &k)
			if err == nil && dev.person == d.person {
				d.mail.keys[dev.id] = key
			}
		}
		c.leaveMail(now, d)
	})
}

// mailDevice returns a device that can be sent mail, and the key to seal to, if
// all that authd says of it verifies.
func (c *Core) mailDevice(now time.Time, k *wire.MailDevice) (*device, hpke.PublicKey, error) {
	t, err := c.cfg.Judge(k.Leaf, k.Issuing)
	if err != nil {
		return nil, nil, err
	}
	if err := wire.VerifyMailKey(t.Key, c.cfg.Realm, k.Public, k.Signature); err != nil {
		return nil, nil, err
	}
	key, err := hpke.MLKEM768X25519().NewPublicKey(k.Public)
	if err != nil {
		return nil, nil, fmt.Errorf("mail key: %w", err)
	}
	dev := c.people.devices[t.Device]
	if dev == nil || dev.serial != t.Serial && !dev.linked {
		dev = c.met(now, t)
	}
	return dev, key, nil
}

// deposit leaves one mail for a device; done is called once it is on authd's
// disk, and then the next follows.
func (c *Core) deposit(d *direct, dev *device, key hpke.PublicKey, number uint64, m *wire.Mail, done func(now time.Time)) {
	sealed, err := c.sealMail(dev, key, m)
	if err != nil {
		delete(d.mail.keys, dev.id) // not a key one can seal to
		return
	}
	d.mail.busy = true
	c.askMail(&wire.AuthDeposit{To: dev.key, Number: number, Sealed: sealed}, func(now time.Time, _ wire.AuthMessage, err error) {
		d.mail.busy = false
		r, refused := err.(*MailRefusal)
		switch {
		case err == nil:
			done(now)
		case refused && r.Code == wire.CodeNoSuchDevice:
			delete(d.mail.keys, dev.id)
		case refused:
			c.planMail(now, d, max(r.RetryAfter, mailAgain)) // it waits here meanwhile
			return
		default:
			return // there is no authd; MailUp goes on
		}
		c.leaveMail(now, d)
	})
}
