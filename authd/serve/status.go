package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lanchat/authd/server"
)

// What a running authd can be asked over its control socket.
const (
	askStatus  = "status"  // a Status, as JSON
	askMetrics = "metrics" // what Metrics returns
)

// A Status is how a running authd is doing. Counts are since its start.
type Status struct {
	Realm         string            `json:"realm"`
	Fingerprint   string            `json:"fingerprint"`
	Address       string            `json:"address"`  // of its socket
	Uptime        int64             `json:"uptime_s"` // seconds
	Accounts      int               `json:"accounts"`
	Online        int               `json:"online"`    // devices connected with a token
	Strangers     int               `json:"strangers"` // connections without one
	Registrations uint64            `json:"registrations"`
	Logins        uint64            `json:"logins"`
	Renewals      uint64            `json:"renewals"`
	Malformed     uint64            `json:"malformed"` // requests not understood
	Refusals      map[string]uint64 `json:"refusals"`  // by code
	Mail          int               `json:"mail"`      // sealed messages that wait for devices that are away
	MailBytes     int64             `json:"mail_bytes"`
	Database      int64             `json:"database_bytes"` // with its write-ahead log
	Trouble       string            `json:"trouble"`        // why the database takes nothing just now; "": it does
	TroubleSince  *time.Time        `json:"trouble_since"`  // null without trouble
	RootNeeded    *time.Time        `json:"root_needed"`    // when authd ends to work without the realm's root key; null while that is far away
}

// Status returns how a is doing.
func (a *Authd) Status() (Status, error) {
	s := a.Server.Stats()
	accounts, err := a.Store.Count()
	if err != nil {
		return Status{}, err
	}
	size, err := databaseSize(a.data)
	if err != nil {
		return Status{}, err
	}
	r := a.Server.Realm()
	st := Status{
		Realm: r.Name, Fingerprint: r.Fingerprint().String(), Address: a.Server.Addr().String(), Uptime: int64(time.Since(a.started).Seconds()),
		Accounts: accounts, Online: s.Online, Strangers: s.Strangers,
		Registrations: s.Registered, Logins: s.LoggedIn, Renewals: s.Renewed, Malformed: s.Malformed, Mail: s.Mail.Items, MailBytes: s.Mail.Bytes,
		Refusals: make(map[string]uint64, len(s.Refused)), Database: size, Trouble: s.Trouble,
	}
	if s.Trouble != "" {
		st.TroubleSince = &s.TroubleSince
	}
	if !s.RootNeeded.IsZero() {
		st.RootNeeded = &s.RootNeeded
	}
	for code, n := range s.Refused {
		st.Refusals[code.String()] += n
	}
	return st, nil
}

// answer is what the control socket says.
func (a *Authd) answer(request string) ([]byte, error) {
	switch request {
	case askMetrics:
		return a.Metrics()
	case askStatus:
		s, err := a.Status()
		if err != nil {
			return nil, err
		}
		return json.Marshal(s)
	}
	return nil, fmt.Errorf("%q: not a request", request)
}

// ReadStatus has the authd that runs on a data directory tell how it is doing.
// ErrNotRunning.
func ReadStatus(data string) (s Status, err error) {
	b, err := askControl(data, askStatus)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("asking the running authd: %w", err)
	}
	return s, nil
}

// ReadMetrics is ReadStatus for Metrics.
func ReadMetrics(data string) ([]byte, error) { return askControl(data, askMetrics) }

// databaseSize returns how many bytes the database and its log take.
func databaseSize(data string) (n int64, err error) {
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(filepath.Join(data, server.DatabaseFile+suffix))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, nil
}
