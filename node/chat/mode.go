package chat

import (
	"fmt"
	"strings"
	"time"
)

// doMode chooses how one's messages of a chat travel; without a choice it shows
// how they do, and how the network treats them.
func (c *Core) doMode(k *call) {
	id, name, ok := c.chatOf(k.chat, k.ref)
	if !ok {
		return
	}
	s := c.settingsOf(id)
	if len(k.args) == 0 {
		c.lookUp(Survey{func(n Network) { c.showMode(id, name, k.ref, n) }})
		return
	}
	if s.mode, ok = ParseMode(strings.ToLower(k.args[0])); !ok {
		c.refuseMode(k.args[0], k.ref)
		return
	}
	c.setSettings(id, s)
	c.show(Notice{Code: "mode", Text: modeWords(name, s.mode), Ref: k.ref, Data: map[string]any{"chat": name, "mode": s.mode.String()}})
}

func (c *Core) refuseMode(mode, ref string) {
	c.refuse(ref, "bad_argument", "the mode %q is neither reliable nor fast%s", mode, meant(mode, "reliable", "fast"))
}

func modeWords(chat string, m Mode) string {
	if m == Fast {
		return "your messages to " + chat + " are fast: sent once, never repaired"
	}
	return "your messages to " + chat + " are reliable: numbered, repaired and confirmed"
}

// A ModeReport is what /mode alone tells of a chat, as data for machines, since the node started.
type ModeReport struct {
	Chat     string  `json:"chat"`
	Mode     string  `json:"mode"`
	Loss     float64 `json:"loss"`      // percent of what was sent here that did not come the first time
	LossOut  float64 `json:"loss_out"`  // of what is sent from here, at whoever loses most
	RTT      float64 `json:"rtt_ms"`    // of a request and its repair, else of a link; 0: none measured
	Received uint64  `json:"received"`  // reliable messages
	Repairs  uint64  `json:"repairs"`   // messages that came after they were asked for
	Resent   uint64  `json:"resent"`    // packets that others asked this node for
	FastLost uint64  `json:"fast_lost"` // fast messages that did not come
	Waiting  int     `json:"waiting"`   // messages of one's own that are not out yet
}

func (c *Core) showMode(id ChatID, chat, ref string, n Network) {
	r := ModeReport{Chat: chat, Mode: c.settingsOf(id).mode.String()}
	if m := c.rooms[id.Room]; m != nil {
		c.roomReport(m, n, &r)
	} else if d := c.direct[id.Account]; d != nil {
		r.Waiting = d.queue.Len()
	}
	if p := c.people.accounts[id.Account]; p != nil {
		var sent, lost uint64
		for _, dev := range p.devices {
			if l := linkOf(n, dev); l != nil {
				sent, lost = sent+l.Sent, lost+l.Lost
				r.RTT = max(r.RTT, milliseconds(l.RTT))
			}
		}
		r.LossOut = share(lost, sent)
		r.Resent = lost
	}
	mode, _ := ParseMode(r.Mode)
	text := fmt.Sprintf("%s\nloss       %.1f %% of what comes, %.1f %% of what goes\n", modeWords(chat, mode), r.Loss, r.LossOut)
	if r.RTT > 0 {
		text += fmt.Sprintf("round trip %s\n", rounded(time.Duration(r.RTT*float64(time.Millisecond))))
	} else {
		text += "round trip not measured yet: nobody is there, or nothing was lost\n"
	}
	text += fmt.Sprintf("repairs    %d that came, %d sent to others", r.Repairs, r.Resent)
	if r.FastLost > 0 {
		text += fmt.Sprintf("\nfast       %d did not come", r.FastLost)
	}
	if r.Waiting > 0 {
		text += fmt.Sprintf("\nwaiting    %d of your messages", r.Waiting)
	}
	c.show(Notice{Code: "mode", Text: text, Ref: ref, Data: r})
}

// roomReport adds up what the inboxes and the sending side of a room have
// measured.
func (c *Core) roomReport(m *membership, n Network, r *ModeReport) {
	var missed uint64
	for _, a := range m.authors {
		lost, repaired := a.path.Counts()
		missed, r.Repairs = missed+lost, r.Repairs+repaired
		r.RTT = max(r.RTT, milliseconds(a.path.RoundTrip()))
		r.FastLost += a.fast.Lost()
	}
	r.Received = m.received
	r.Loss = share(min(missed, m.received), m.received)
	out, resent := m.out.Loss()
	r.LossOut, r.Resent = 100*out, resent
	r.Waiting = len(m.waiting)
	if r.RTT > 0 {
		return
	}
	for _, d := range c.linkedIn(m) {
		if l := linkOf(n, d); l != nil {
			r.RTT = max(r.RTT, milliseconds(l.RTT))
		}
	}
}

// share returns how many percent part is of all.
func share(part, of uint64) float64 { return 100 * float64(part) / float64(max(of, 1)) }

func linkOf(n Network, d *device) *NetLink {
	for _, p := range n.Peers {
		if p.Device == d.id {
			return p.Link
		}
	}
	return nil
}
