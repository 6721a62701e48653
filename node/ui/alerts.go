package ui

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"lanchat/node/chat"
	"lanchat/node/ui/view"
)

const notifyPatience = 10 * time.Second // with the desktop's service

// alerts hands alerts to the desktop's service, which may take its time: while
// it has one, others are left out.
type alerts struct {
	notify func(title, text string) error // nil: there is none
	show   func(chat.Event)
	busy   atomic.Bool
	told   atomic.Bool // that it does not work, once
}

func (a *alerts) send(alert view.Alert) {
	if a.notify == nil || !a.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer a.busy.Store(false)
		late := time.AfterFunc(notifyPatience, func() { a.tell(errors.New("it does not answer")) })
		defer late.Stop()
		if err := a.notify(alert.Title, alert.Text); err != nil {
			a.tell(err)
		}
	}()
}

// tell says once that the service does not work.
func (a *alerts) tell(err error) {
	if !a.told.Swap(true) {
		a.show(chat.Error{Code: "failed", Text: fmt.Sprintf("notifying through the desktop's service: %v; /set desktop on notifies through the terminal", err)})
	}
}
