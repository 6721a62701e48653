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
	maxLinks     = 50  // listed at once
	maxNumbered  = 10_000
)

// numberLinks returns the numbers of the links in a text that is shown. A link
// keeps its number, wherever it stands, while the node runs.
func (c *Core) numberLinks(text string) (numbers []int) {
	if !strings.Contains(text, "http") && !strings.Contains(text, "mailto:") {
		return nil
	}
	for _, url := range markup.Links(clean.Text(text, 0)) {
		numbers = append(numbers, c.numberLink(url))
	}
	return numbers
}

func (c *Core) numberLink(url string) int {
	if n := c.linkNumber[url]; n > 0 {
		return n
	}
	if len(c.links) >= maxNumbered { // they are counted anew, and old ones lose theirs
		c.links, c.linkNumber = nil, nil
	}
	if c.linkNumber == nil {
		c.linkNumber = map[string]int{}
	}
	c.links = append(c.links, url)
	c.linkNumber[url] = len(c.links)
	return len(c.links)
}

func (c *Core) doLinks(k *call) {
	if id, _, ok := c.chatOf(k.chat, k.ref); ok {
		c.lookUp(Lookup{Chat: id, Limit: linkMessages, code: "links", ref: k.ref})
	}
}

// foundLinks lists the links of messages, each once, the newest first.
func (c *Core) foundLinks(q Lookup, found []SaveMessage) {
	list := []FoundLink{}
	seen := map[string]bool{}
	var lines []string
	for _, m := range slices.Backward(found) {
		for _, url := range markup.Links(clean.Text(m.Text, 0)) {
			if seen[url] || len(list) == maxLinks {
				continue
			}
			seen[url] = true
			l := FoundLink{N: c.numberLink(url), URL: url, From: clean.Line(m.From, wire.MaxNameHint), ID: m.ID.String()}
			list = append(list, l)
			lines = append(lines, fmt.Sprintf("%d %s (%s)", l.N, l.URL, l.From))
		}
	}
	if len(lines) == 0 {
		lines = []string{"no links in the last messages of " + c.chatName(q.Chat)}
	} else {
		lines = append(lines, fmt.Sprintf("/open %d asks, then opens the last one", list[0].N))
	}
	c.show(Notice{Code: q.code, Text: strings.Join(lines, "\n"), Ref: q.ref, Data: list})
}

func (c *Core) doOpen(k *call) {
	n, err := strconv.Atoi(k.args[0])
	switch {
	case len(c.links) == 0:
		c.refuse(k.ref, "bad_argument", "no links were shown yet: /links lists and numbers them")
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
