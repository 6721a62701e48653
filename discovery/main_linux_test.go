package discovery_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"lanchat/testdata/lan/emu"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		child()
		return
	}
	code := emu.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "leak:", err)
			code = 1
		}
	}
	os.Exit(code)
}
