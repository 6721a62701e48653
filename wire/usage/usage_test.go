package usage

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // "": all is well
	}{
		{[]string{"list"}, ""},
		{[]string{"add", "ann"}, ""},
		{[]string{"help", "add"}, ""},
		{[]string{"completion", "bash"}, ""},
		{[]string{"lst"}, `prog has no command "lst"; did you mean list?`},
		{[]string{"xyzzy"}, `prog has no command "xyzzy"`},
		{[]string{"help", "xyzzy"}, `prog has no command "xyzzy"`},
		{[]string{"completion"}, "prog completion: want bash, fish, powershell or zsh"},
		{[]string{"device"}, "prog device: want list or revoke"},
		{[]string{"device", "lst"}, `prog device has no command "lst"; did you mean list?`},
		{[]string{"add"}, "usage: prog add NAME"},
		{[]string{"list", "ann"}, `prog list takes no arguments, and was given "ann"`},
		{[]string{"--prt", "1"}, "unknown flag: --prt; did you mean --port?"},
		{[]string{"--xyzzy"}, "unknown flag: --xyzzy"},
		{[]string{"-x"}, "unknown shorthand flag: 'x' in -x"},
		{[]string{"--port", "x"}, `--port "x": want a number from 0 to 65535`},
		{[]string{"--loss", "x"}, `--loss "x": want a whole number`},
		{[]string{"--wait", "3"}, `--wait "3": want a time with its unit, such as 500ms, 10s or 2m`},
		{[]string{"--really=x"}, `--really "x": want true or false`},
		{[]string{"--port"}, "flag needs an argument: --port"},
	} {
		t.Run(fmt.Sprint(tt.args), func(t *testing.T) {
			nothing := func(*cobra.Command, []string) error { return nil }
			root := &cobra.Command{Use: "prog", Args: Args(cobra.NoArgs), RunE: nothing}
			root.PersistentFlags().Uint16("port", 0, "")
			root.Flags().Int("loss", 0, "")
			root.Flags().Duration("wait", time.Second, "")
			root.Flags().Bool("really", false, "")
			device := &cobra.Command{Use: "device"}
			device.AddCommand(&cobra.Command{Use: "list", RunE: nothing}, &cobra.Command{Use: "revoke", RunE: nothing})
			root.AddCommand(device, &cobra.Command{Use: "list", Args: Args(cobra.NoArgs), RunE: nothing},
				&cobra.Command{Use: "add NAME", Args: Args(cobra.ExactArgs(1)), RunE: nothing})
			Set(root)
			root.SetOut(io.Discard)
			root.SetArgs(tt.args)
			got := ""
			if err := root.Execute(); err != nil {
				got = err.Error()
				if !Is(fmt.Errorf("wrapped: %w", err)) {
					t.Errorf("%v is not about the command line", err)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if Is(errors.New("the disk is full")) || Is(nil) {
		t.Error("every failure is about the command line")
	}
}
