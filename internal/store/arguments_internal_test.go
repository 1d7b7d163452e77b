package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCall checks that each value has the parameter that its name is given.
func TestCall(t *testing.T) {
	args := arguments{{"p_tenant", []string{"acme"}}, {"p_rank", []int16{7}}}
	if diff := cmp.Diff("SELECT caly_f(p_tenant => $1, p_rank => $2)", call("caly_f", args)); diff != "" {
		t.Errorf("statement (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{[]string{"acme"}, []int16{7}}, args.values()); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}
