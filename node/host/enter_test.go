package host

import (
	"errors"
	"testing"

	"lanchat/node/login"
	"lanchat/wire"
)

// A connection that authd ends as it stops is no answer, whereas authd's own
// words are one: with those the person is asked again.
func TestLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"done", nil, false},
		{"the connection was refused", &login.RefusedError{Code: wire.CodeUnavailable, Err: errors.New("CONNECTION_REFUSED")}, true},
		{"authd can't just now", &login.RefusedError{Code: wire.CodeUnavailable}, false},
		{"wrong password", &login.RefusedError{Code: wire.CodeBadCredentials}, false},
		{"weak password", &login.RefusedError{Code: wire.CodeWeakPassword, Err: errors.New("too short")}, false},
	} {
		if got := lost(nil, tt.err); got != tt.want {
			t.Errorf("%s: lost is %v, want %v", tt.name, got, tt.want)
		}
	}
}
