// Package words is what both programs need to say something to people: things
// counted, and the word that was probably meant. It knows nothing of what they
// are.
package words

import (
	"fmt"
	"strings"
)

// Count is n things, one of which is called one, several many.
func Count[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Nearest returns the word of a list that differs from name by at most two
// letters, "" if none does.
func Nearest(name string, list []string) (near string) {
	best := 3
	for _, word := range list {
		if d := distance(strings.ToLower(name), strings.ToLower(word)); d < best && d < len(word) {
			best, near = d, word
		}
	}
	return near
}

// distance is the Levenshtein distance of two short strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			swap := diagonal
			if a[i] != b[j] {
				swap++
			}
			diagonal = row[j+1]
			row[j+1] = min(swap, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
