package presence

import (
	"container/heap"
	"time"

	"lanchat/wire"
)

// The table of devices: their states, who has to go when it is full, and when
// each wants attention next.

// expire does what a device waited for.
func (t *Tracker) expire(now time.Time, d *device) {
	switch {
	case d.state == StateHinted && !now.Before(d.hintedUntil()):
		t.tell(now, Expired, d)
		t.remove(d)
		return
	case d.state == StateAlive && !now.Before(d.silentAt()):
		t.become(d, StateLost)
		t.tell(now, Lost, d)
	case d.state == StateAlive && d.linked && !now.Before(d.pingAt()):
		d.pinged = now
		t.tell(now, Ping, d)
	}
	t.schedule(d)
}

// leave makes a device one that said goodbye. Whatever it sent before that
// comes too late.
func (t *Tracker) leave(now time.Time, d *device) {
	d.window.close()
	d.multicast, d.quic, d.mdns, d.authd = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	d.candidates = nil
	was := d.state
	t.become(d, StateLeft)
	if was == StateAlive && d.heardOf {
		t.tell(now, Left, d)
	}
	t.schedule(d)
}

// become sets a device's state and reports whether it was another.
func (t *Tracker) become(d *device, s State) bool {
	fresh := s == StateAlive && !d.heardOf
	if s == StateAlive {
		d.heardOf = true
	}
	if d.state == s {
		return fresh
	}
	t.count(d, -1)
	d.state = s
	t.count(d, +1)
	return true
}

func (t *Tracker) count(d *device, n int) {
	who := 1
	switch {
	case d.state == StateHinted:
		t.hinted += n
	case !d.vouched:
		t.strange += n
		who = 0
	}
	if d.state == StateAlive {
		t.alive[who] += n
	}
}

func (t *Tracker) vouch(d *device) {
	if d.vouched {
		return
	}
	t.count(d, -1)
	d.vouched = true
	t.count(d, +1)
}

func (t *Tracker) tell(now time.Time, k Kind, d *device) {
	if k == Seen || k == Restarted {
		d.told = now
	}
	t.out = append(t.out, Event{k, d.peer(now)})
}

// schedule puts the device where its next work belongs among the others'.
func (t *Tracker) schedule(d *device) {
	d.due = d.next()
	switch {
	case d.due.IsZero() && d.index >= 0:
		heap.Remove(&t.due, d.index)
	case d.due.IsZero():
	case d.index >= 0:
		heap.Fix(&t.due, d.index)
	default:
		heap.Push(&t.due, d)
	}
}

// add makes room for a device and adds it; nil if there is none.
//
// Who has to go is chosen by what it would cost to lose: hints of strangers, then
// other hints and silent strangers, then strangers, then silent devices that are
// vouched for; among equals who was heard longest ago. A vouched device that is
// alive never goes, and a newcomer pushes nobody out who is worth more than
// itself. Hints and strangers have a bound of their own.
func (t *Tracker) add(now time.Time, id wire.DeviceID, s State) *device {
	d := &device{id: id, state: s, index: -1, period: basePeriod, checks: budget{rate: 3, burst: 24}}
	_, d.vouched = t.vouched[id]
	full := false
	among := func(*device) bool { return true }
	switch {
	case s == StateHinted && t.hinted >= maxHinted:
		full, among = true, func(o *device) bool { return o.state == StateHinted }
	case s != StateHinted && !d.vouched && t.strange >= maxStrangers:
		full, among = true, func(o *device) bool { return o.state != StateHinted && !o.vouched }
	case len(t.devices) >= MaxDevices:
		full = true
	}
	if full && !t.dropLeast(now, among, d.worth()) {
		return nil
	}
	t.devices[id] = d
	t.count(d, +1)
	return d
}

func (t *Tracker) addVouched(now time.Time, id wire.DeviceID) *device {
	t.Vouch(id)
	d := t.add(now, id, StateLost) // becomes Alive by what follows
	if d == nil {
		t.stats.Dropped++
	}
	return d
}

// dropLeast removes the device worth least among some, unless that is worth more
// than the given, and tells that it is gone.
func (t *Tracker) dropLeast(now time.Time, among func(*device) bool, worth int) bool {
	var least *device
	for _, d := range t.devices {
		if among(d) && (least == nil || d.worth() < least.worth() ||
			d.worth() == least.worth() && d.lastHeard().Before(least.lastHeard())) {
			least = d
		}
	}
	if least == nil || least.worth() > worth || least.worth() == worthMost {
		return false
	}
	switch least.state {
	case StateHinted:
		t.tell(now, Expired, least)
	case StateAlive:
		t.become(least, StateLost)
		t.tell(now, Lost, least)
	}
	t.remove(least)
	return true
}

func (t *Tracker) remove(d *device) {
	t.count(d, -1)
	if d.index >= 0 {
		heap.Remove(&t.due, d.index)
	}
	delete(t.devices, d.id)
}
