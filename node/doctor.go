package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lanchat/node/checkup"
	"lanchat/node/doctor"
	"lanchat/wire/clean"
	"lanchat/wire/private"
	"lanchat/wire/usage"
)

func (o *options) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Checks the network, authd, peers, clock and key files; says what is wrong and what to do", Args: usage.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return o.doctor() },
	}
}

// doctor looks at everything and prints what is wrong. It changes nothing.
func (o *options) doctor() error {
	ctx, stop := interruptible()
	defer stop()
	authds, err := parseAddrs("--authd", o.authd)
	if err != nil {
		return err
	}
	facts, err := checkup.Gather(ctx, checkup.Config{Data: o.data, Ifaces: o.ifaces, Authds: authds, Port: o.port, Running: o.askNet})
	if err != nil {
		return err
	}
	findings := doctor.Judge(&facts, time.Now())
	for _, f := range findings {
		if o.json {
			b, err := json.Marshal(f)
			if err != nil {
				return err
			}
			fmt.Println(string(b))
			continue
		}
		mark := "ok  "
		if !f.OK {
			mark = "FAIL"
		}
		fmt.Printf("%s  %-10s  %s\n", mark, f.Check, clean.Line(f.Cause, 0))
		if f.Fix != "" {
			fmt.Printf("                  → %s\n", clean.Line(f.Fix, 0))
		}
	}
	if !doctor.Well(findings) {
		return &exitError{status: exitFailure}
	}
	return nil
}

// askNet asks the node that runs on the data directory how the network looks
// to it.
func (o *options) askNet(ctx context.Context) ([]byte, error) {
	conn, err := private.DialSocket(o.data, program)
	if err != nil {
		return nil, err
	}
	conn.Close() // connect dials again, and would start a node if none ran
	s, err := o.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	defer s.close()
	e, err := s.ask(ctx, "/net")
	return e.Data, err
}
