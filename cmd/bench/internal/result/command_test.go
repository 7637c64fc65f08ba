package result_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

func TestWordsHavePasswordsNoMore(t *testing.T) {
	t.Parallel()
	got := result.Words([]string{
		"run", "--redis", "redis://:hunter2@10.0.0.7:6379", "--medusa-sql", "postgres://u:hunter2@h/d", "--redis=redis://u:hunter2@%zz",
		"--redis=redis://h?password=hunter2", "--rate=500",
	})
	text := strings.Join(got, " ")
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "10.0.0.7:6379") || !slices.Contains(got, "--rate=500") || got[0] != "run" {
		t.Errorf("the words are %q", got)
	}
}
