package login

import (
	"math/rand/v2"
	"time"
)

// Patience is how long one try to reach an authd may take. One that says
// nothing is given up earlier (link.AuthdDialConfig); one that answers slowly,
// since everybody comes at once, is not to be asked to begin anew.
const Patience = 10 * time.Second

// Pause returns how long to leave an address alone after it has failed so many
// times in a row, from 1: about 1, 2, 4 and then always 4 seconds. It is drawn
// anew each time, from half of that to one and a half, so that those whom a
// power cut stopped at the same moment do not all come at the same moment.
func Pause(failures int) time.Duration {
	d := time.Second << min(max(failures-1, 0), 2)
	return d/2 + rand.N(d)
}
