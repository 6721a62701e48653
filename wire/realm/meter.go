package realm

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go/adjacency"
	"github.com/ccojocar/zxcvbn-go/data"
	"github.com/ccojocar/zxcvbn-go/entropy"
	"github.com/ccojocar/zxcvbn-go/match"
)

// The password meter is zxcvbn's: its lists of words and keyboards, what it takes
// to guess a word, a walk on a keyboard or a date, and the sum of the least that
// a password can be put together of. What of that is in a password is looked for
// here, as the library's own search makes tables of 90,000 words when the program
// starts and keeps them, for a password that few starts ask for. This one turns it
// round: the parts of the password are the table, and the words pass by, out of
// the compressed lists and into nothing. That takes some ten milliseconds.

// guessed returns everything in the password that is easier to guess than its
// characters are. Positions count bytes.
func guessed(password string, inputs []string) []match.Match {
	m := finding{password: password}
	m.words(inputs)
	for _, name := range []string{"qwerty", "dvorak", "keypad", "macKeypad"} {
		m.walks(adjacency.GraphMap[name])
	}
	m.repeats()
	m.sequences()
	m.dates()
	return m.found
}

// finding is what was found in a password.
type finding struct {
	password string
	found    []match.Match
}

func (m *finding) add(pattern string, from, to int, bits float64) {
	m.found = append(m.found, match.Match{Pattern: pattern, I: from, J: to - 1, Token: m.password[from:to], Entropy: bits})
}

// The lists, the most used word first in each, and the longest word in them.
var wordLists = []string{"Passwords", "English", "Surnames", "FemaleNames", "MaleNames"}

const longestWord = 22

// words finds the words of the lists and what else the person typed, in any
// case, and with digits and signs that stand for letters. Those cost nothing
// more to guess: programs try them first.
func (m *finding) words(inputs []string) {
	longest := longestWord
	for _, word := range inputs {
		longest = max(longest, len(word))
	}
	places := map[string][]int{} // where parts of the password begin
	for _, read := range readings(m.password) {
		for from := range read {
			for to := from + 1; to <= len(read) && to-from <= longest; to++ {
				if part := read[from:to]; !slices.Contains(places[part], from) {
					places[part] = append(places[part], from)
				}
			}
		}
	}
	look := func(word []byte, rank int) {
		for _, from := range places[string(word)] {
			to := from + len(word)
			m.add("dictionary", from, to, entropy.DictionaryEntropy(match.Match{Token: m.password[from:to]}, float64(rank)))
		}
	}
	for i, word := range inputs {
		look([]byte(lower(word)), i+1)
	}
	for _, name := range wordLists {
		eachWord(name, look)
	}
}

// eachWord calls f with the words of a list and their ranks. The lists are JSON
// of plain words, one string after the other.
func eachWord(list string, f func(word []byte, rank int)) {
	b, err := data.Asset("data/" + list + ".json")
	if err != nil {
		panic(fmt.Sprintf("the password meter's list %s: %v", list, err)) // it is part of the program
	}
	_, b, _ = bytes.Cut(b, []byte("["))
	for rank := 1; ; rank++ {
		_, after, more := bytes.Cut(b, []byte{'"'})
		word, rest, whole := bytes.Cut(after, []byte{'"'})
		if !more || !whole {
			return
		}
		f(word, rank)
		b = rest
	}
}

// lower makes the letters of ASCII small, and so keeps the length.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// What people write for letters. Of the last three each may be one of two.
var (
	signs     = strings.NewReplacer("4", "a", "@", "a", "8", "b", "(", "c", "{", "c", "[", "c", "<", "c", "3", "e", "6", "g", "9", "g", "!", "i", "0", "o", "$", "s", "5", "s", "+", "t", "%", "x", "2", "z")
	ambiguous = []struct{ sign, one, other string }{{"1", "i", "l"}, {"|", "i", "l"}, {"7", "t", "l"}}
)

// readings returns the password in small letters, as it is and with the signs
// that stand for letters read as such, in every way; all are as long as it is.
func readings(password string) []string {
	plain := lower(password)
	read := []string{signs.Replace(plain)}
	for _, a := range ambiguous {
		for _, r := range read {
			if strings.Contains(r, a.sign) {
				read = append(read, strings.ReplaceAll(r, a.sign, a.other))
			}
		}
		for i := range read {
			read[i] = strings.ReplaceAll(read[i], a.sign, a.one)
		}
	}
	return append(read, plain)
}

// walks finds keys that lie side by side, three and more.
func (m *finding) walks(g adjacency.Graph) {
	for from := 0; from < len(m.password); {
		to, turns, shifted, last := from+1, 0, 0, -1
		for ; to < len(m.password); to++ {
			key := m.password[to]
			side := slices.IndexFunc(g.Graph[m.password[to-1:to]], func(k string) bool { return strings.IndexByte(k, key) >= 0 })
			if side < 0 {
				break
			}
			if side != last {
				turns++
			}
			if g.Graph[m.password[to-1:to]][side][0] != key {
				shifted++
			}
			last = side
		}
		if to-from > 2 {
			walk := match.Match{Token: m.password[from:to], DictionaryName: g.Name}
			m.add("spatial", from, to, entropy.SpatialEntropy(walk, turns, shifted))
		}
		from = to
	}
}

// repeats finds one character, in any case, three times and more.
func (m *finding) repeats() {
	for from := 0; from < len(m.password); {
		_, size := utf8.DecodeRuneInString(m.password[from:])
		one, to := m.password[from:from+size], from+size
		for to+size <= len(m.password) && strings.EqualFold(m.password[to:to+size], one) {
			to += size
		}
		if to-from > 2*size {
			m.add("repeat", from, to, entropy.RepeatEntropy(match.Match{Token: m.password[from:to]}))
		}
		from = to
	}
}

var rows = []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"}

// sequences finds abc and 321: letters or digits in their order, three and more.
func (m *finding) sequences() {
	for _, row := range rows {
		for from := 0; from < len(m.password); {
			to, step := from+1, 0
			for at := strings.IndexByte(row, m.password[from]); at >= 0 && to < len(m.password); to++ {
				next := strings.IndexByte(row, m.password[to])
				if to == from+1 {
					step = next - at
				}
				if next < 0 || next-at != step || step != 1 && step != -1 {
					break
				}
				at = next
			}
			if to-from > 2 {
				m.add("sequence", from, to, entropy.SequenceEntropy(match.Match{Token: m.password[from:to]}, len(row), step > 0))
			}
			from = max(from+1, to-1) // the end of one may begin the next
		}
	}
}

var (
	separated = regexp.MustCompile(`\d{1,4}[-/\\_. ]\d{1,2}[-/\\_. ]\d{1,4}`)
	parts     = regexp.MustCompile(`\d+`)
)

// dates finds days, with and without what separates their numbers, and years.
func (m *finding) dates() {
	for from := range m.password {
		if at := separated.FindStringIndex(m.password[from:]); at != nil && at[0] == 0 {
			p := parts.FindAllString(m.password[from:from+at[1]], 3)
			for _, d := range []match.DateMatch{{Year: number(p[0]), Month: number(p[1]), Day: number(p[2])}, {Year: number(p[2]), Month: number(p[1]), Day: number(p[0])}} {
				if isDate(d) {
					d.Separator = "-"
					m.add("date", from, from+at[1], entropy.DateEntropy(d))
				}
			}
		}
		for to := from + 4; to <= min(from+8, len(m.password)); to++ {
			digits := m.password[from:to]
			if strings.Trim(digits, rows[2]) != "" {
				break
			}
			if to == from+4 && isYear(number(digits)) {
				m.add("year", from, to, math.Log2(years))
			}
			for _, d := range datesOf(digits) {
				m.add("date", from, to, entropy.DateEntropy(d))
			}
		}
	}
}

// datesOf returns what dates the digits can be.
func datesOf(digits string) (dates []match.DateMatch) {
	for _, year := range []int{2, 4} {
		rest := len(digits) - year
		if rest < 2 || rest > 4 {
			continue
		}
		for _, split := range [][2]string{{digits[:year], digits[year:]}, {digits[rest:], digits[:rest]}} {
			for day := max(1, rest-2); day <= min(2, rest-1); day++ {
				d := match.DateMatch{Year: number(split[0]), Day: number(split[1][:day]), Month: number(split[1][day:])}
				if isDate(d) {
					dates = append(dates, d)
				}
			}
		}
	}
	return dates
}

// isDate reports whether there is such a day, where days and months may stand
// the other way round.
func isDate(d match.DateMatch) bool {
	small, large := min(d.Day, d.Month), max(d.Day, d.Month)
	return small >= 1 && small <= 12 && large <= 31 && (d.Year < 100 || isYear(d.Year))
}

const firstYear, years = 1900, 200

func isYear(n int64) bool { return n >= firstYear && n < firstYear+years }

// number returns the number that some digits are.
func number(digits string) int64 {
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}
