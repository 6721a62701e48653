package room

import (
	"testing"
	"time"

	"lanchat/wire"
)

// What somebody else asked for is made by Log.Act with the builders' checks,
// and the log says who asked.
func TestActFor(t *testing.T) {
	d := found(t, "ann", "bob", "cat", "dan")
	d.promote("bob")
	id := d.self
	id.For = who("bob").Account
	mark := func(k wire.DeviceKey) uint64 { return 7 }
	for _, args := range []wire.Args{
		&wire.LogSilence{Account: who("cat").Account}, &wire.LogUnsilence{Account: who("cat").Account},
		&wire.LogSettings{Name: "lab", Topic: "today"},
		&wire.LogBan{Account: who("dan").Account, Reason: "rude"}, &wire.LogUnban{Account: who("dan").Account},
		&wire.LogAdmit{Account: who("eve").Account, Name: "eve", Devices: personOf("eve").Devices},
		&wire.LogKick{Account: who("cat").Account, Reason: "rude"},
		&wire.LogLeft{Account: who("eve").Account},
	} {
		a, err := d.log.Act(id, d.now, d.keys, args, mark)
		if err != nil {
			t.Errorf("%v: %v", args.Op(), err)
			continue
		}
		d.do(a, nil)
		if a.Entry.For != who("bob").Account || a.Entry.Op() != args.Op() {
			t.Errorf("%v: made %v for %v", args.Op(), a.Entry.Op(), a.Entry.For)
		}
		if k, ok := a.Entry.Args.(*wire.LogKick); ok && (len(k.Marks) != 1 || k.Marks[0].Number != 7) {
			t.Errorf("the kick has the marks %v", k.Marks)
		}
		if b, ok := d.log.State().Ban(who("dan").Account); ok && b.By != who("bob").Account {
			t.Errorf("the ban is by %v, want bob", b.By)
		}
	}
	for _, args := range []wire.Args{&wire.LogClaim{}, &wire.LogLeave{}, &wire.LogRekey{}, &wire.LogCreate{}} {
		refused(t, args.Op().String(), ErrNotAdmin)(d.log.Act(id, d.now, d.keys, args, mark))
	}
	refused(t, "kicks who is gone", ErrNoSuchMember)(d.log.Act(id, d.now, d.keys, &wire.LogKick{Account: who("cat").Account}, mark))
}

// A member's signed leave stays to be recorded until it is, or until the
// person was let in again.
func TestLeavers(t *testing.T) {
	d := found(t, "ann", "bob", "cat")
	if l := d.keys.Leavers(); len(l) != 0 {
		t.Errorf("leavers %v", l)
	}
	d.keys.Leaving(who("cat").Account)
	if l := d.keys.Leavers(); len(l) != 1 || l[0] != who("cat").Account {
		t.Errorf("leavers %v, want cat", l)
	}
	d.do(d.log.Left(d.self, d.now, who("cat").Account, nil))
	d.now = d.now.Add(time.Second)
	d.admit("cat")
	if l := d.keys.Leavers(); len(l) != 0 {
		t.Errorf("leavers %v after cat came back", l)
	}
}
