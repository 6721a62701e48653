package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lanchat/authd/serve"
	"lanchat/wire/usage"
	"lanchat/wire/words"
)

func (o *options) statusCommand() *cobra.Command {
	var asJSON, asMetrics bool
	cmd := &cobra.Command{
		Use: "status", Short: "Tells how the running authd is doing; exits 1 if none is running",
		Args: usage.Args(func(cmd *cobra.Command, args []string) error {
			if asJSON && asMetrics {
				return errors.New("status: --json or --metrics, not both")
			}
			return cobra.NoArgs(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := o.realm(); err != nil {
				return err
			}
			if asMetrics {
				b, err := serve.ReadMetrics(o.data)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			s, err := serve.ReadStatus(o.data)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	cmd.Flags().BoolVar(&asMetrics, "metrics", false, "in Prometheus's text format")
	return cmd
}

// printStatus writes the status for people.
func printStatus(w io.Writer, s serve.Status) error {
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
	fmt.Fprintf(tw, "online\t%s, %s without a token\n", words.Count(s.Online, "device", "devices"), words.Count(s.Strangers, "connection", "connections"))
	fmt.Fprintf(tw, "since start\t%s, %s, %s\n", words.Count(s.Logins, "log-in", "log-ins"), words.Count(s.Registrations, "registration", "registrations"), words.Count(s.Renewals, "renewal", "renewals"))
	fmt.Fprintf(tw, "refusals\t%d%s\n", total, refused)
	fmt.Fprintf(tw, "malformed\t%d\n", s.Malformed)
	fmt.Fprintf(tw, "mail\t%s waiting, %d KiB\n", words.Count(s.Mail, "message", "messages"), (s.MailBytes+1023)/1024)
	fmt.Fprintf(tw, "database\t%d KiB\n", (s.Database+1023)/1024)
	if s.Trouble != "" {
		fmt.Fprintf(tw, "trouble\t%s\n\tsince %s; nobody can register, log in or renew\n", s.Trouble, s.TroubleSince.Format(time.DateTime))
	}
	if s.RootNeeded != nil {
		fmt.Fprintf(tw, "root key\tneeded before %s: put root.pem with its key back and restart authd\n", s.RootNeeded.Format(time.DateTime))
	}
	return tw.Flush()
}
