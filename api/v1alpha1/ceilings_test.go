package v1alpha1_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// betweenRule matches the rule of a duration with both bounds.
var betweenRule = regexp.MustCompile(`self\) >= duration\('(\w+)'\) && .* <= duration\('(\w+)'\)`)

// requestLimit matches the paths of the limits of requests, which have the same bounds.
var requestLimit = regexp.MustCompile(`^auth\.limits\.\w+\.`)

// boundOf returns how the documentation writes the bound of a field; "" for a field that sets no share.
func boundOf(s *schema) string {
	switch {
	case s.Maximum != nil && s.Minimum != nil:
		return fmt.Sprintf("%.0f to %.0f", *s.Minimum, *s.Maximum)
	case s.MaxItems != nil:
		return fmt.Sprintf("at most %d", *s.MaxItems)
	}
	for _, r := range s.Rules {
		if m := betweenRule.FindStringSubmatch(r.Rule); m != nil {
			return m[1] + " to " + m[2]
		}
	}
	return ""
}

// documented reads the table of the platform's ceilings.
func documented(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(kubetest.Root(), "docs/reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## Platform ceilings of tenant fields\n")
	if !found {
		t.Fatal("docs/reference.md has no section of the platform's ceilings")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string]string{}
	for row := range strings.Lines(section) {
		if cells := strings.Split(row, "|"); len(cells) > 3 && strings.HasPrefix(cells[1], " `") {
			table[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	return table
}

// TestCeilingsAreDocumented compares the table of the documentation with the CRD: every field of a Tenant that has a
// bound in numbers is in the table, with this bound.
func TestCeilingsAreDocumented(t *testing.T) {
	want := map[string]string{}
	for _, v := range crds(t)["Tenant"].Spec.Versions {
		walk("", v.Schema.OpenAPIV3Schema.Properties["spec"], func(path string, s *schema) {
			if bound := boundOf(s); bound != "" {
				want[requestLimit.ReplaceAllString(path, "auth.limits.*.")] = bound
			}
		})
	}
	if len(want) < 10 {
		t.Fatalf("the CRD has only these bounds: %v", want)
	}
	if diff := cmp.Diff(want, documented(t)); diff != "" {
		t.Errorf("docs/reference.md is stale (-CRD +documentation):\n%s", diff)
	}
}
