package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A promise points to the test that holds it, in the package that is named: a
// test that was renamed or moved would leave it empty.
func TestDocumentsNameTests(t *testing.T) {
	const top = ".."
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	// What tests a package has, with the names of subtests that stand in tables.
	sources := map[string]string{}
	testsOf := func(pkg string) string {
		if s, ok := sources[pkg]; ok {
			return s
		}
		files, err := filepath.Glob(filepath.Join(top, pkg, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("there are no tests in %s", pkg)
		}
		var all strings.Builder
		for _, f := range files {
			rel, err := filepath.Rel(top, f)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(read(rel))
		}
		sources[pkg] = all.String()
		return sources[pkg]
	}
	has := func(pkg, name string) bool {
		name, sub, _ := strings.Cut(name, "/")
		if sub != "" && !strings.Contains(read("authd/account/storetest/storetest.go")+testsOf(pkg), `{"`+sub+`", `) {
			return false
		}
		return strings.Contains(testsOf(pkg), "\nfunc "+name+"(")
	}

	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_/]+)`")
	group := regexp.MustCompile("((?:" + name.String() + "(?:, | and )?)+) \\(([a-z][a-z0-9/, ]*)\\)")
	total := 0
	security := read("SECURITY.md")
	for _, g := range group.FindAllStringSubmatch(security, -1) {
		packages := strings.Split(g[3], ", ")
		for _, n := range name.FindAllStringSubmatch(g[1], -1) {
			total++
			found := false
			for _, pkg := range packages {
				found = found || has(pkg, n[1])
			}
			if !found {
				t.Errorf("SECURITY.md names %s of %s, which is not there", n[1], g[3])
			}
		}
	}
	// None is left out, such as by a list that is written in another way.
	if all := len(name.FindAllString(security, -1)); total != all || total < 100 {
		t.Errorf("%d tests are named with their packages, %d of all: want each as `TestName` (package)", total, all)
	}
}
