package chat

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lanchat/node/markup"
	"lanchat/wire"
	"lanchat/wire/clean"
)

// A FoundLink is a link in a chat, as "/links" lists it.
type FoundLink struct {
	N    int    `json:"n"` // for "/open"
	URL  string `json:"url"`
	From string `json:"from"`
	ID   string `json:"id"` // of the message
}

// An Opening asks the person whether to open a link: the Data of the notice
// "open". A face with a person asks, and starts the platform's opener.
type Opening struct {
	URL string `json:"url"`
}

const (
	linkMessages = 500 // the last ones, which are searched for links
	maxLinks     = 50
)

func (c *Core) doLinks(k *call) {
	if id, _, ok := c.chatOf(k.chat, k.ref); ok {
		c.lookUp(Lookup{Chat: id, Limit: linkMessages, code: "links", ref: k.ref})
	}
}

// foundLinks lists the links of messages, each once, the newest first.
func (c *Core) foundLinks(q Lookup, found []SaveMessage) {
	list := []FoundLink{}
	c.links = nil
	var lines []string
	for _, m := range slices.Backward(found) {
		for _, url := range markup.Links(clean.Text(m.Text, 0)) {
			if slices.Contains(c.links, url) || len(c.links) == maxLinks {
				continue
			}
			c.links = append(c.links, url)
			l := FoundLink{N: len(c.links), URL: url, From: clean.Line(m.From, wire.MaxNameHint), ID: m.ID.String()}
			list = append(list, l)
			lines = append(lines, fmt.Sprintf("%d %s (%s)", l.N, l.URL, l.From))
		}
	}
	if len(lines) == 0 {
		lines = []string{"no links in the last messages of " + c.chatName(q.Chat)}
	} else {
		lines = append(lines, "/open 1 asks, then opens the first")
	}
	c.show(Notice{Code: q.code, Text: strings.Join(lines, "\n"), Ref: q.ref, Data: list})
}

func (c *Core) doOpen(k *call) {
	n, err := strconv.Atoi(k.args[0])
	switch {
	case len(c.links) == 0:
		c.refuse(k.ref, "bad_argument", "no links were listed yet: /links numbers them")
	case err != nil || n < 1 || n > len(c.links):
		c.refuse(k.ref, "bad_argument", "%q is no number from 1 to %d: /links numbers the links", k.args[0], len(c.links))
	default:
		url := c.links[n-1]
		c.show(Notice{Code: "open", Text: "open " + url + " ?", Ref: k.ref, Data: Opening{URL: url}})
	}
}

func (c *Core) doClear(k *call) {
	c.show(Notice{Code: "clear", Text: "the screen is empty; the history keeps everything", Ref: k.ref})
}
