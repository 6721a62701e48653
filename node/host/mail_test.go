package host_test

import (
	"testing"
	"time"
)

// "Delivers a reliable DM even when sender and receiver are never online
// together", through the real authd, whose database does not hold the text and
// which is restarted between the two.
func TestMailbox(t *testing.T) {
	run(t, func(l *lab) {
		nodes := l.together("ann", "bob")
		ann, bob := nodes[0], nodes[1]
		bob.stop()
		ann.wait("bob gone", 10*time.Second, peer("bob", "left"))
		ann.say("@bob", "reliable", "the kettle is on")
		ann.say("@bob", "reliable", "two sugars?")
		ann.waitTimes("that authd keeps both", 2, 20*time.Second, code("kept"))
		ann.stop()
		l.stopAuthd()
		time.Sleep(time.Hour)
		l.authd.start()
		bob.start()
		bob.wait("the mail", 30*time.Second, message("@ann", "the kettle is on"))
		bob.wait("more mail", 30*time.Second, message("@ann", "two sugars?"))
		time.Sleep(10 * time.Second)
		bob.stop()
		ann.start()
		ann.waitTimes("both receipts", 2, 30*time.Second, receipt("@bob", "bob"))
		bob.start()
		ann.wait("bob back", 30*time.Second, peer("bob", "online"))
		time.Sleep(time.Minute)
		bob.once("@ann", "the kettle is on")
		bob.once("@ann", "two sugars?")
	})
}
