// Package markup reads what people type around their words: **bold**,
// *italic*, ~~strike~~, `code`, fenced blocks, > quotes and links. It says what
// a piece of text is; how that looks is node/ui/theme's, and which of it fits
// into a row is [Wrap]'s.
//
// Text of others must have passed wire/clean. Start with [Lines].
package markup

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
	"golang.org/x/net/idna"
)

// A Span is a piece of a line of one look.
type Span struct {
	Text                       string
	Bold, Italic, Strike, Code bool
	Quote                      bool   // of a line that begins with >
	Link                       string // the target, of which Text is a part
}

const (
	maxLink   = 2048 // bytes of a link
	maxMarkup = 4096 // bytes of a line that is searched for marks
)

// Inline takes one line of a message apart into its spans: **bold**,
// *italic*, ~~strike~~, `code` and links. What is not marked up stays as
// typed, every space of it; underscores and single tildes are no marks,
// because they are common in names of things. Nor is anything in a line over
// 4 KiB, which nobody wrote by hand.
func Inline(line string) []Span {
	if len(line) > maxMarkup {
		return []Span{{Text: line}}
	}
	body := strings.TrimLeft(line, " ")
	w := walker{src: []byte(strings.TrimRight(body, " "))}
	w.add(Span{Text: line[:len(line)-len(body)]})
	if len(w.src) > 0 {
		w.children(inline.Parse(text.NewReader(w.src)), Span{})
	}
	w.add(Span{Text: body[len(w.src):]})
	return w.spans
}

// inline is goldmark's parser with nothing but the marks of Inline.
var inline = parser.NewParser(
	parser.WithBlockParsers(util.Prioritized(parser.NewParagraphParser(), 100)),
	parser.WithInlineParsers(
		util.Prioritized(parser.NewCodeSpanParser(), 100),
		util.Prioritized(only{parser.NewEmphasisParser(), "*"}, 500),
		util.Prioritized(only{extension.NewStrikethroughParser(), "~~"}, 500),
		util.Prioritized(named{}, 600),
		util.Prioritized(extension.NewLinkifyParser(
			extension.WithLinkifyAllowedProtocols([]string{"http:", "https:", "mailto:"}),
			extension.WithLinkifyURLRegexp(linkShape),
			extension.WithLinkifyWWWRegexp(never),
			extension.WithLinkifyEmailRegexp(never),
		), 999),
	),
)

// linkShape is what may be a link; Link decides. Unlike linkify's own it
// takes bare addresses and host names without a dot: they are what links on
// a LAN look like.
var linkShape = regexp.MustCompile("^(?:https?://|mailto:)[^\\s<>\"`]+")

// never matches nothing: an address without a scheme is not the target that
// would be opened.
var never = regexp.MustCompile(`^\b\B`)

// only makes an inline parser see nothing but one mark.
type only struct {
	parser.InlineParser
	mark string
}

func (o only) Trigger() []byte { return []byte{o.mark[0]} }

func (o only) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	if line, _ := block.PeekLine(); !strings.HasPrefix(string(line[:min(len(line), len(o.mark))]), o.mark) {
		return nil
	}
	return o.InlineParser.Parse(parent, block, pc)
}

// CloseBlock passes on what the embedded parser may want at the end of a
// block.
func (o only) CloseBlock(parent ast.Node, block text.Reader, pc parser.Context) {
	if c, ok := o.InlineParser.(parser.CloseBlocker); ok {
		c.CloseBlock(parent, block, pc)
	}
}

// named reads [text](target), where target is a link: what else stands in
// brackets stays as typed.
type named struct{}

func (named) Trigger() []byte { return []byte{'['} }

func (named) Parse(_ ast.Node, block text.Reader, _ parser.Context) ast.Node {
	line, segment := block.PeekLine()
	label, rest, ok := bytes.Cut(line[1:], []byte("]("))
	if !ok || len(label) == 0 || bytes.ContainsAny(label, "[]") {
		return nil
	}
	target, _, ok := bytes.Cut(rest, []byte(")"))
	if _, good := Link(string(target)); !ok || !good {
		return nil
	}
	n := ast.NewLink()
	n.Destination = target
	n.AppendChild(n, ast.NewTextSegment(text.NewSegment(segment.Start+1, segment.Start+1+len(label))))
	block.Advance(1 + len(label) + 2 + len(target) + 1)
	return n
}

// A walker turns a parsed line into spans.
type walker struct {
	src   []byte
	spans []Span
}

func (w *walker) children(n ast.Node, look Span) {
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		w.node(c, look)
	}
}

func (w *walker) node(n ast.Node, look Span) {
	switch n := n.(type) {
	case *ast.Text:
		look.Text = string(n.Segment.Value(w.src))
		w.add(look)
		return
	case *ast.String:
		look.Text = string(n.Value)
		w.add(look)
		return
	case *ast.CodeSpan:
		look.Code = true
	case *ast.Emphasis:
		if n.Level == 2 {
			look.Bold = true
		} else {
			look.Italic = true
		}
	case *extast.Strikethrough:
		look.Strike = true
	case *ast.Link:
		w.children(n, look)
		target, _ := Link(string(n.Destination))
		link := look
		look.Text, link.Text, link.Link = " (", target, target
		w.add(look)
		w.add(link)
		look.Text = ")"
		w.add(look)
		return
	case *ast.AutoLink:
		look.Text = string(n.Label(w.src))
		if target, ok := Link(look.Text); ok {
			look.Text, look.Link = target, target
		}
		w.add(look)
		return
	}
	w.children(n, look)
}

// add appends s, to the span before it if that looks the same.
func (w *walker) add(s Span) {
	if s.Text == "" {
		return
	}
	if i := len(w.spans) - 1; i >= 0 && s.Link == "" {
		last := w.spans[i]
		last.Text = s.Text
		if last == s {
			w.spans[i].Text += s.Text
			return
		}
	}
	w.spans = append(w.spans, s)
}

// Link returns the target of a link as it is both shown and opened, and
// whether s is one: http, https or mailto, at most 2048 bytes, no user
// information. The host is ASCII: a look-alike of another script shows its
// punycode.
func Link(s string) (target string, ok bool) {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxLink || u.User != nil || strings.ContainsRune(s, ' ') {
		return "", false
	}
	switch u.Scheme {
	case "http", "https":
		host, err := idna.Lookup.ToASCII(u.Hostname())
		if strings.Contains(u.Hostname(), ":") { // an IPv6 address
			host, err = u.Hostname(), nil
		}
		if err != nil || host == "" {
			return "", false
		}
		if !ascii(u.Host) {
			if port := u.Port(); port != "" {
				host += ":" + port
			}
			u.Host = host
		}
	case "mailto":
		if !strings.Contains(u.Opaque, "@") {
			return "", false
		}
	default:
		return "", false
	}
	target = s
	if !ascii(s) {
		target = u.String()
	}
	if !ascii(target) || len(target) > maxLink {
		return "", false
	}
	return target, true
}

// Lines takes a message apart into its lines. What stands between two lines of
// three backticks is code as typed, without those lines; a line that begins
// with > is a quote.
func Lines(message string) [][]Span {
	lines := strings.Split(message, "\n")
	var list [][]Span
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], fence) {
			if n := slices.Index(lines[i+1:], fence); n >= 0 {
				for _, code := range lines[i+1 : i+1+n] {
					list = append(list, []Span{{Text: code, Code: true}})
				}
				i += n + 1
				continue
			}
		}
		spans := Inline(lines[i])
		if strings.HasPrefix(lines[i], ">") {
			for k := range spans {
				spans[k].Quote = true
			}
		}
		list = append(list, spans)
	}
	if list == nil {
		list = [][]Span{nil} // nothing but fences
	}
	return list
}

const fence = "```"

// Numbered puts the number of each link behind it: "[3]". Lines are those of a
// whole message.
func Numbered(lines [][]Span, numbers []int) [][]Span {
	for i, line := range lines {
		var list []Span
		for _, s := range line {
			list = append(list, s)
			if s.Link != "" && len(numbers) > 0 {
				s.Link, s.Text = "", fmt.Sprintf(" [%d]", numbers[0])
				list, numbers = append(list, s), numbers[1:]
			}
		}
		lines[i] = list
	}
	return lines
}

// NumberedText does so in a message as it was typed.
func NumberedText(message string, numbers []int) string {
	if len(numbers) == 0 {
		return message
	}
	var b strings.Builder
	links := Links(message)
	for i, link := range links[:min(len(links), len(numbers))] {
		before, rest, ok := strings.Cut(message, link)
		if !ok {
			continue // it was written in another way
		}
		b.WriteString(before + link)
		if strings.HasSuffix(before, "](") && strings.HasPrefix(rest, ")") {
			b.WriteByte(')')
			rest = rest[1:]
		}
		fmt.Fprintf(&b, " [%d]", numbers[i])
		message = rest
	}
	return b.String() + message
}

// Typed is Lines for text that is not marked up.
func Typed(text string) (list [][]Span) {
	for line := range strings.SplitSeq(text, "\n") {
		list = append(list, []Span{{Text: line}})
	}
	return list
}

// Links returns the targets of the links in a message, in order.
func Links(message string) []string {
	var links []string
	for _, line := range Lines(message) {
		for _, s := range line {
			if s.Link != "" {
				links = append(links, s.Link)
			}
		}
	}
	return links
}

// ascii reports whether s is visible ASCII without spaces.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Cells returns how many columns s may take on a terminal at most: what
// counts as one sign for some is drawn part by part by others.
func Cells(s string) int {
	return max(ansi.StringWidth(s), ansi.StringWidthWc(s))
}

// Wrap breaks spans into rows of at most first columns, then rest columns
// each, between words where it can. A rest below 1 means no limit.
func Wrap(spans []Span, first, rest int) [][]Span {
	if rest < 1 {
		return [][]Span{spans}
	}
	rows := [][]Span{nil}
	used, limit := 0, first
	put := func(s Span, text string) {
		s.Text = text
		row := &rows[len(rows)-1]
		if i := len(*row) - 1; i >= 0 {
			last := (*row)[i]
			last.Text = text
			if last == s {
				(*row)[i].Text += text
				return
			}
		}
		*row = append(*row, s)
	}
	next := func() {
		rows = append(rows, nil)
		used, limit = 0, rest
	}
	for _, s := range spans {
		for _, word := range runsOf(s.Text) {
			n := Cells(word)
			if used+n > limit && n <= rest && (used > 0 || len(rows) == 1) {
				next()
				if word[0] == ' ' {
					continue // the break stands for it
				}
			}
			if used+n <= limit {
				put(s, word)
				used += n
				continue
			}
			for word != "" { // longer than a row
				sign, _ := ansi.FirstGraphemeCluster(word, ansi.GraphemeWidth)
				if sign == "" {
					sign = word
				}
				n := Cells(sign)
				if used+n > limit && (used > 0 || len(rows) == 1) {
					next()
				}
				put(s, sign)
				used += n
				word = word[len(sign):]
			}
		}
	}
	return rows
}

// runsOf cuts s into runs of spaces and runs of anything else.
func runsOf(s string) []string {
	var list []string
	for s != "" {
		i := strings.IndexByte(s, ' ')
		switch {
		case i < 0:
			i = len(s)
		case i == 0:
			i = len(s) - len(strings.TrimLeft(s, " "))
		}
		list = append(list, s[:i])
		s = s[i:]
	}
	return list
}
