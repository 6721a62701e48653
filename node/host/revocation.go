package host

import (
	"errors"
	"fmt"
	"time"

	"lanchat/node/chat"
	"lanchat/wire"
	"lanchat/wire/link"
	"lanchat/wire/realm"
)

// Revocation lists come from authd, which pushes them, and from peers: Hello
// and NewCRL say which list a peer holds, and who holds an older one asks for
// it. So a node that cannot reach authd hears of a revocation from whoever can.
// A list counts by authd's signature and its number, never by who handed it on.

// listWait is how long a node that hears of a newer list waits before it asks:
// authd is about to push the same list to all that it can reach.
const listWait = 300 * time.Millisecond

// newList is called when a new revocation list is in force: the core and every
// link are judged by it, and the peers are told.
func (h *Host) newList(now time.Time) {
	list := h.cfg.Profile.Verifier().CRL()
	h.core.HandleRevoked(now, list.Revokes)
	h.recheck(now)
	h.tellList()
	if h.revoked() {
		h.selfRevoked("")
	}
}

// selfRevoked says that this device is shut out, if only by the word of others:
// they end the link before they could hand over the list.
func (h *Host) selfRevoked(who string) {
	if who == "" { // the realm's own word
		h.core.HandleShutOut(revokedWords)
	}
	if h.shutOut {
		return
	}
	h.shutOut = true
	h.core.HandleTrouble(chat.Error{Code: wire.CodeRevoked.String(), Text: who + revokedWords})
}

const revokedWords = "this device was revoked or its account shut out, and nobody talks to it any more: node logout, then node login with the password makes it a new device"

// recheck ends the links of devices whose tokens the newest revocation list
// names, or have ended. The latter are dialled again, with what token they have
// by now.
func (h *Host) recheck(now time.Time) {
	for _, c := range h.contacts {
		if c.link == nil {
			continue
		}
		switch err := h.cfg.Profile.Verifier().Check(c.link.token, h.now()); {
		case errors.Is(err, realm.ErrRevoked):
			h.dropLink(now, c, link.CloseRevoked)
			h.discovery.Unvouch(c.device)
			h.gone(now, c.device, "left", "revoked")
		case errors.Is(err, realm.ErrExpired):
			h.dropLink(now, c, link.CloseExpired)
		}
	}
}

// tellList tells every peer that does not know it yet which list is held here.
func (h *Host) tellList() {
	number := h.cfg.Profile.Verifier().CRL().Number
	for _, c := range h.contacts {
		if l := c.link; l != nil && l.told < number {
			if l.offered < number {
				m := wire.NewCRL{Number: number}
				l.push(chat.Frame{Type: wire.FrameNewCRL, Body: m.Append(nil)})
			}
			l.told = number
		}
	}
}

// listOffered takes a peer's word that it holds the list with the number.
func (h *Host) listOffered(l *peerLink, number uint64) {
	l.offered = max(l.offered, number)
	h.pullList()
}

// pullList asks one peer for a list newer than the one held, if any offers
// one.
func (h *Host) pullList() {
	verifier := h.cfg.Profile.Verifier()
	var from *peerLink
	best := verifier.CRL().Number
	for _, c := range h.contacts {
		if c.link != nil && !c.link.empty && c.link.offered > best {
			from, best = c.link, c.link.offered
		}
	}
	if from == nil || h.pulling {
		return
	}
	h.pulling = true
	go func() {
		select {
		case <-time.After(listWait):
		case <-h.quit:
			return
		}
		var changed bool
		var err error
		if verifier.CRL().Number < best {
			changed, err = h.askList(from)
		}
		h.post(func(now time.Time) {
			h.pulling = false
			if verifier.CRL().Number < best {
				from.empty = true
				h.badLists++
				h.log.Info("a peer does not have the revocation list it offers", "device", from.token.Device, "number", best, "so far", h.badLists, "err", err)
			}
			if changed {
				h.newList(now)
			}
			h.pullList() // from another, or a still newer one
		})
	}()
}

// askList asks a peer for its revocation list and takes it in. It reports
// whether the list is in force now.
func (h *Host) askList(l *peerLink) (changed bool, err error) {
	frames, err := l.ask(wire.FrameAskCRL, nil)
	if err != nil {
		return false, err
	}
	if len(frames) != 1 || frames[0].Type != wire.FrameCRL {
		return false, fmt.Errorf("the answer to a question for the revocation list: %w", wire.ErrType)
	}
	m, err := wire.ParseCRL(frames[0].Body)
	if err != nil {
		return false, err
	}
	return h.cfg.Profile.SetCRL(m.Issuing, m.List)
}

// listFrames is the answer to a peer that asks for the revocation list.
func (h *Host) listFrames() []chat.Frame {
	list := h.cfg.Profile.Verifier().CRL()
	if list.Number == 0 {
		return nil
	}
	m := wire.CRL{Issuing: list.Issuing, List: list.DER}
	return []chat.Frame{{Type: wire.FrameCRL, Body: m.Append(nil)}}
}
