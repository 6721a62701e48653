package serve

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"lanchat/authd/server"
	"lanchat/wire"
)

// Metrics returns numbers about a in Prometheus's text format.
func (a *Authd) Metrics() ([]byte, error) {
	accounts, err := a.Store.Count()
	if err != nil {
		return nil, err
	}
	return metrics(a.Server.Stats(), accounts, time.Since(a.started)), nil
}

func metrics(s server.Stats, accounts int, up time.Duration) []byte {
	var b bytes.Buffer
	one := func(name, kind, help string, value any) {
		fmt.Fprintf(&b, "# HELP authd_%s %s\n# TYPE authd_%[1]s %[3]s\nauthd_%[1]s %[4]v\n", name, help, kind, value)
	}
	one("accounts", "gauge", "Accounts on record.", accounts)
	one("online", "gauge", "Devices connected with a token.", s.Online)
	one("strangers", "gauge", "Connections without a token.", s.Strangers)
	one("registrations_total", "counter", "Accounts registered since start.", s.Registered)
	one("logins_total", "counter", "Log-ins since start.", s.LoggedIn)
	one("renewals_total", "counter", "Tokens renewed since start.", s.Renewed)
	one("malformed_total", "counter", "Requests not understood since start.", s.Malformed)
	one("mail", "gauge", "Sealed messages that wait for devices that are away.", s.Mail.Items)
	one("mail_bytes", "gauge", "Bytes of them.", s.Mail.Bytes)
	ok := 1
	if s.Trouble != "" {
		ok = 0
	}
	one("store_ok", "gauge", "1 while the database takes what is to be stored, else 0.", ok)
	left := int64(-1)
	if !s.RootNeeded.IsZero() {
		left = s.RootNeeded.Unix()
	}
	one("root_needed_timestamp_seconds", "gauge", "When authd ends to work unless the realm's root key is put back; -1 while that is far away.", left)
	one("uptime_seconds", "gauge", "Seconds since start.", int64(up.Seconds()))
	fmt.Fprint(&b, "# HELP authd_refusals_total Requests refused since start, by code.\n# TYPE authd_refusals_total counter\n")
	for _, code := range slices.SortedFunc(maps.Keys(s.Refused), func(a, b wire.Code) int { return int(a) - int(b) }) {
		fmt.Fprintf(&b, "authd_refusals_total{code=%q} %d\n", code.String(), s.Refused[code])
	}
	return b.Bytes()
}
