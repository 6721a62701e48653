package serve

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"lanchat/authd/server"
	"lanchat/wire"
)

func TestMetrics(t *testing.T) {
	got := string(metrics(server.Stats{
		Online: 3, Strangers: 1, Registered: 2, LoggedIn: 5, Renewed: 7, Malformed: 1,
		Refused: map[wire.Code]uint64{wire.CodeRateLimited: 4, wire.CodeBadCredentials: 9},
	}, 12, 90*time.Second))
	for _, line := range []string{
		"authd_accounts 12", "authd_online 3", "authd_strangers 1", "authd_registrations_total 2", "authd_logins_total 5",
		"authd_renewals_total 7", "authd_malformed_total 1", "authd_uptime_seconds 90",
		"authd_refusals_total{code=\"bad_credentials\"} 9\nauthd_refusals_total{code=\"rate_limited\"} 4",
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	for line := range strings.Lines(got) {
		if !regexp.MustCompile(`^(# (HELP|TYPE) authd_\w+ .+|authd_\w+(\{code="\w+"\})? -?\d+)\n$`).MatchString(line) {
			t.Errorf("not Prometheus's format: %q", line)
		}
	}
}
