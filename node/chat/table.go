package chat

import (
	"fmt"
	"strings"
)

// table returns rows as lines with aligned columns, two spaces apart. Every
// column but the last is ASCII, as names of people and rooms are. A line break
// in the last one goes on below its beginning.
func table(rows [][]string) []string {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(cell))
		}
	}
	lines := make([]string, len(rows))
	for r, row := range rows {
		var line strings.Builder
		for i, cell := range row[:len(row)-1] {
			fmt.Fprintf(&line, "%-*s  ", width[i], cell)
		}
		below := "\n" + strings.Repeat(" ", line.Len())
		line.WriteString(strings.ReplaceAll(row[len(row)-1], "\n", below))
		lines[r] = strings.TrimRight(line.String(), " ")
	}
	return lines
}
