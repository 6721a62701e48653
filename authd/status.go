package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lanchat/authd/serve"
	"lanchat/authd/server"
)

// What a running authd can be asked over its control socket.
const (
	askStatus  = "status"  // a status, as JSON
	askMetrics = "metrics" // as the metrics file
)

// A status is how a running authd is doing. Counts are since its start.
type status struct {
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
}

// answer returns what a control socket of a says.
func answer(a *serve.Authd, data string, started time.Time) func(request string) ([]byte, error) {
	return func(request string) ([]byte, error) {
		s, up := a.Server.Stats(), time.Since(started)
		accounts, err := a.Store.Count()
		if err != nil {
			return nil, err
		}
		switch request {
		case askMetrics:
			return metrics(s, accounts, up), nil
		case askStatus:
		default:
			return nil, fmt.Errorf("%q: not a request", request)
		}
		size, err := databaseSize(data)
		if err != nil {
			return nil, err
		}
		r := a.Server.Realm()
		st := status{
			Realm: r.Name, Fingerprint: r.Fingerprint().String(), Address: a.Server.Addr().String(), Uptime: int64(up.Seconds()),
			Accounts: accounts, Online: s.Online, Strangers: s.Strangers,
			Registrations: s.Registered, Logins: s.LoggedIn, Renewals: s.Renewed, Malformed: s.Malformed, Mail: s.Mail.Items, MailBytes: s.Mail.Bytes,
			Refusals: make(map[string]uint64, len(s.Refused)), Database: size, Trouble: s.Trouble,
		}
		if s.Trouble != "" {
			st.TroubleSince = &s.TroubleSince
		}
		for code, n := range s.Refused {
			st.Refusals[code.String()] += n
		}
		return json.Marshal(st)
	}
}

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

func (o *options) statusCommand() *cobra.Command {
	var asJSON, asMetrics bool
	cmd := &cobra.Command{
		Use: "status", Short: "Tells how the running authd is doing; exits 1 if none is running",
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if asJSON && asMetrics {
				return errors.New("status: --json or --metrics, not both")
			}
			return cobra.NoArgs(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := o.realm(); err != nil {
				return err
			}
			request := askStatus
			if asMetrics {
				request = askMetrics
			}
			b, err := askControl(o.data, request)
			if err != nil {
				return err
			}
			if asMetrics {
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			var s status
			if err := json.Unmarshal(b, &s); err != nil {
				return fmt.Errorf("asking the running authd: %w", err)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			return s.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	cmd.Flags().BoolVar(&asMetrics, "metrics", false, "in Prometheus's text format")
	return cmd
}

// print writes the status for people.
func (s *status) print(w io.Writer) error {
	refused, total := "", uint64(0)
	for _, code := range slices.Sorted(maps.Keys(s.Refusals)) {
		refused += fmt.Sprintf(", %s %d", code, s.Refusals[code])
		total += s.Refusals[code]
	}
	if refused != "" {
		refused = " (" + strings.TrimPrefix(refused, ", ") + ")"
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "realm\t%s\n", s.Realm)
	fmt.Fprintf(tw, "fingerprint\t%s\n", s.Fingerprint)
	fmt.Fprintf(tw, "address\t%s\n", s.Address)
	fmt.Fprintf(tw, "up\t%v\n", time.Duration(s.Uptime)*time.Second)
	fmt.Fprintf(tw, "accounts\t%d\n", s.Accounts)
	fmt.Fprintf(tw, "online\t%d devices, %d connections without a token\n", s.Online, s.Strangers)
	fmt.Fprintf(tw, "since start\t%d log-ins, %d registrations, %d tokens renewed\n", s.Logins, s.Registrations, s.Renewals)
	fmt.Fprintf(tw, "refusals\t%d%s\n", total, refused)
	fmt.Fprintf(tw, "malformed\t%d\n", s.Malformed)
	fmt.Fprintf(tw, "mail\t%d messages wait, %d KiB\n", s.Mail, (s.MailBytes+1023)/1024)
	fmt.Fprintf(tw, "database\t%d KiB\n", (s.Database+1023)/1024)
	if s.Trouble != "" {
		fmt.Fprintf(tw, "trouble\t%s\n\tsince %s; nobody can register, log in or renew\n", s.Trouble, s.TroubleSince.Format(time.DateTime))
	}
	return tw.Flush()
}
