package protocol

import (
	"regexp"
	"slices"
	"testing"

	"github.com/redisidem/redisidem/lua"
)

func TestStatusesOfTheScriptsAreKnown(t *testing.T) {
	t.Parallel()
	known := []Status{
		StatusOK, StatusCreated, StatusFound, StatusOwn, StatusBusy, StatusDone, StatusMoved, StatusStale, StatusGone,
		StatusLost, StatusFenced, StatusForgotten, StatusMismatch, StatusDamaged, StatusOther,
		StatusFree, StatusUnknown, StatusEffect, StatusAlive, StatusLate, StatusLater, StatusLetter, StatusInterim, StatusFull,
	}
	used := make(map[Status]bool)
	word := regexp.MustCompile(`'([A-Z]+) '`)
	for _, s := range lua.All() {
		for _, m := range word.FindAllStringSubmatch(s.Source, -1) {
			used[Status(m[1])] = true
			if !slices.Contains(known, Status(m[1])) {
				t.Errorf("%s answers %s", s.Name, m[1])
			}
		}
	}
	for _, s := range known {
		if !used[s] {
			t.Errorf("no script answers %s", s)
		}
	}
}
