package ui

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lanchat/node/chat"
	"lanchat/node/ui/view"
)

// A service that fails, or does not answer, is spoken of once, and holds nobody
// up meanwhile.
func TestAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error)
		var asked []string
		said := make(chan string, 10)
		told := func() (all []string) {
			for len(said) > 0 {
				all = append(all, <-said)
			}
			return all
		}
		a := &alerts{
			notify: func(title, _ string) error {
				asked = append(asked, title)
				return <-answer
			},
			show: func(e chat.Event) { said <- e.(chat.Error).Text },
		}
		a.send(view.Alert{Title: "first"})
		a.send(view.Alert{Title: "left out"})
		time.Sleep(notifyPatience - time.Nanosecond)
		synctest.Wait()
		if told := told(); len(told) != 0 {
			t.Errorf("told %q", told)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if told := told(); len(told) != 1 || !strings.Contains(told[0], "it does not answer") || !strings.Contains(told[0], "/set desktop on") {
			t.Errorf("told %q", told)
		}
		answer <- nil
		synctest.Wait()
		a.send(view.Alert{Title: "second"})
		answer <- errors.New("no")
		synctest.Wait()
		if told := told(); len(told) != 0 || strings.Join(asked, " ") != "first second" {
			t.Errorf("asked with %q, told %q", asked, told)
		}
		(&alerts{}).send(view.Alert{}) // there is none
	})
}
