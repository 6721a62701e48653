package realm

import (
	"encoding/json"
	"fmt"
	"sync"
	_ "unsafe" // for go:linkname

	zxcvbn "github.com/ccojocar/zxcvbn-go"
	"github.com/ccojocar/zxcvbn-go/adjacency"
	"github.com/ccojocar/zxcvbn-go/data"
	"github.com/ccojocar/zxcvbn-go/frequency"
	"github.com/ccojocar/zxcvbn-go/match"
)

// The meter makes tables of 90,000 words when the program starts: three quarters
// of all that a waiting node would have in memory, for a password that few starts
// ask for. So the tables are dropped at once, and made again when one is judged:
// the meter does that itself where it finds none. It has no other way to be told,
// hence the names of its own variables here. Would it change them, nothing worse
// comes of it than what TestWordsAreDropped says.

//go:linkname dictionaryMatchers github.com/ccojocar/zxcvbn-go/matching.dictionaryMatchers
var dictionaryMatchers []match.Matcher

//go:linkname matchers github.com/ccojocar/zxcvbn-go/matching.matchers
var matchers []match.Matcher

//go:linkname adjacencyGraphs github.com/ccojocar/zxcvbn-go/matching.adjacencyGraphs
var adjacencyGraphs []adjacency.Graph

func init() { dropWords() }

var words struct {
	sync.Mutex
	loaded bool
}

func dropWords() {
	words.Lock()
	defer words.Unlock()
	words.loaded = false
	clear(frequency.Lists)
	dictionaryMatchers, matchers, adjacencyGraphs = nil, nil, nil
}

// loadWords has the meter make its tables, unless it has them.
func loadWords() {
	words.Lock()
	defer words.Unlock()
	if words.loaded {
		return
	}
	for _, name := range []string{"MaleNames", "FemaleNames", "Surnames", "English", "Passwords"} {
		b, err := data.Asset("data/" + name + ".json")
		var list frequency.List
		if err == nil {
			err = json.Unmarshal(b, &list)
		}
		if err != nil {
			panic(fmt.Sprintf("the password meter's list %s: %v", name, err)) // it is part of the program
		}
		frequency.Lists[name] = list
	}
	zxcvbn.PasswordStrength("x", nil)
	clear(frequency.Lists)
	words.loaded = true
}
