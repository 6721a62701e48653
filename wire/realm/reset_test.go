package realm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"lanchat/wire"
)

func TestResetCode(t *testing.T) {
	c, err := NewResetCode(bytes.NewReader([]byte("0123456789abcdef")))
	if err != nil {
		t.Fatal(err)
	}
	const want = "LR1-GAYT-EMZU-GU3D-OOBZ-MFRG-GZDF-MYCO-JL" // change it, and codes given out are void
	if got := c.Text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, s := range []string{want, strings.ToLower(want), strings.ReplaceAll(want, "-", " "), " " + strings.ReplaceAll(want, "-", "") + "\r\n",
		strings.ReplaceAll(want[4:], "O", "0")} {
		if !strings.HasPrefix(strings.ToUpper(strings.TrimSpace(s)), "LR1") {
			s = "LR1-" + s
		}
		if got, err := ParseResetCode(s); err != nil || got != c {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "LR1", "LR1-", want[:len(want)-1], want + "A", "LC1" + want[3:], strings.Replace(want, "GAYT", "GAYU", 1),
		"correct horse battery staple", "LR1-" + strings.Repeat("-", 30)} {
		if _, err := ParseResetCode(s); err == nil {
			t.Errorf("%q is read as a code", s)
		} else if len(s) > 8 && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats %q", s)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(s, "GAYT") || strings.Contains(s, "0x30") {
		t.Errorf("the code is printed: %s", s)
	}
	if _, err := NewResetCode(strings.NewReader("short")); err == nil {
		t.Error("a code of too little randomness")
	}
}

func TestResetProof(t *testing.T) {
	c := ResetCode{1}
	p := c.Proof(wire.RealmID{1})
	if got := fmt.Sprintf("%x", p); got != "0f0f864194503cc92bff3d69ecbc519f" {
		t.Errorf("got %s", got)
	}
	if p == c.Proof(wire.RealmID{2}) || p == (ResetCode{2}).Proof(wire.RealmID{1}) || bytes.Equal(p[:], c[:]) {
		t.Error("the proof is not bound to realm and code")
	}
}

func FuzzParseResetCode(f *testing.F) {
	f.Add(ResetCode{1, 2, 3}.Text())
	f.Add("LR1-")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseResetCode(s); err == nil {
			if again, err := ParseResetCode(c.Text()); err != nil || again != c {
				t.Errorf("%q is read as %q, that as %v", s, c.Text(), err)
			}
		}
	})
}
