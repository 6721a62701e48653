package account_test

import (
	"testing"
	"time"

	"lanchat/authd/account"
	"lanchat/wire"
	"lanchat/wire/realm"
)

// "An account missing after the restore can be re-created from its still valid
// certificate": another store stands for the database of an old backup.
func TestReadmit(t *testing.T) {
	cfg := account.Config{StartsPerMinute: -1}
	lost := newDesk(t, cfg) // where the certificates come from
	ann := lost.register("ann", "secret", 1)
	laptop, err := lost.login("ann", "secret", 2)
	want(t, err, 0)

	back := newDesk(t, cfg)
	back.now = t0.Add(time.Hour)
	acct, err := back.Readmit(back.now, ann.Grant)
	want(t, err, 0)
	if acct.ID != ann.Account || acct.Name != "ann" || acct.NameSeq != 1 {
		t.Errorf("readmitted as %+v", acct)
	}
	// Both devices renew then, and a certificate that was shown can be revoked.
	want(t, second(back.renew(ann.Account, ann.Key)), 0)
	want(t, second(back.Readmit(back.now, laptop.Grant)), 0)
	want(t, second(back.renew(ann.Account, laptop.Key)), 0)
	want(t, back.st.Revoke(laptop.Key, back.now), 0)
	_, revoked, err := back.CRL(back.now)
	if err != nil || len(revoked) != 2 {
		t.Errorf("after revoking the laptop the list is %v, %v, want both its certificates", revoked, err)
	}
	want(t, second(back.Readmit(back.now, laptop.Grant)), wire.CodeRevoked)
	want(t, second(back.renew(ann.Account, laptop.Key)), wire.CodeRevoked)
	// The old password opens nothing, since it is not known.
	want(t, second(back.login("ann", "secret", 3)), wire.CodeBadCredentials)

	// Who was removed here stays removed, by any certificate.
	want(t, back.Remove(back.now, "ann"), 0)
	other := ann.Grant
	other.Serial = realm.Serial{9}
	want(t, second(back.Readmit(back.now, ann.Grant)), wire.CodeNameTaken)
	want(t, second(back.Readmit(back.now, other)), wire.CodeNameTaken)
	other.Name, other.NameSeq = "anna", 2
	want(t, second(back.Readmit(back.now, other)), wire.CodeNotAuthenticated)
}

func TestReadmitNames(t *testing.T) {
	cfg := account.Config{StartsPerMinute: -1}
	lost, back := newDesk(t, cfg), newDesk(t, cfg)
	ann := lost.register("ann", "secret", 1)
	back.now = t0.Add(time.Hour)
	back.register("ann", "of somebody else", 7)

	// "Re-create from certificate if name free, else new name demanded."
	acct, err := back.Readmit(back.now, ann.Grant)
	want(t, err, 0)
	if acct.ID != ann.Account || acct.Name == "ann" || acct.NameSeq != 2 || realm.CheckName(acct.Name) != nil {
		t.Errorf("readmitted as %+v", acct)
	}
	g, err := back.renew(ann.Account, ann.Key)
	want(t, err, 0)
	if g.Name != acct.Name || g.NameSeq != 2 {
		t.Errorf("renewed as %q, number %d", g.Name, g.NameSeq)
	}

	// Renamed after the backup: the later name counts, and the older one is in
	// quarantine.
	bob := lost.register("bob", "secret", 2)
	want(t, back.st.Create(account.Account{ID: bob.Account, Name: "bob", NameSeq: 1, Created: t0},
		account.Device{Key: bob.Key, Account: bob.Account, Created: t0, Expires: bob.NotAfter}, bob.Grant), 0)
	robert, err := lost.RenameOwn(lost.now, bob.Account, bob.Key, "robert", home)
	want(t, err, 0)
	acct, err = back.Readmit(back.now, robert.Grant)
	want(t, err, 0)
	if acct.Name != "robert" || acct.NameSeq != 2 {
		t.Errorf("after a rename readmitted as %+v", acct)
	}
	for _, name := range []string{"bob", "robert"} {
		want(t, back.NameFree(back.now, name), wire.CodeNameTaken)
	}
	want(t, second(back.Readmit(back.now, robert.Grant)), wire.CodeNotAuthenticated)
}
