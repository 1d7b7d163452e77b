package v1alpha1_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// exceptions from the bounds, each with its reason.
var exceptions = map[string]string{
	"apiVersion": "Kubernetes bounds it",
	"kind":       "Kubernetes bounds it",
	"metadata":   "Kubernetes describes and bounds it",
}

// schema is as much of a CRD's schema as is looked at here.
type schema struct {
	Type, Description, Format string
	Enum                      []any
	Minimum, Maximum          *float64
	MaxLength, MaxItems       *int64
	Properties                map[string]*schema
	AdditionalProperties      any
	Items                     *schema
	ListType                  string                           `json:"x-kubernetes-list-type"`
	Open                      bool                             `json:"x-kubernetes-preserve-unknown-fields"`
	Rules                     []struct{ Rule, Message string } `json:"x-kubernetes-validations"`
}

type column struct {
	Name     string
	Priority int
}

type crd struct {
	Spec struct {
		Names    struct{ Kind string }
		Versions []struct {
			Columns []column `json:"additionalPrinterColumns"`
			Schema  struct{ OpenAPIV3Schema *schema }
		}
	}
}

// crds reads what is installed on a cluster, by kind.
func crds(t *testing.T) map[string]crd {
	t.Helper()
	found := map[string]crd{}
	files, err := filepath.Glob(filepath.Join(kubetest.Root(), "config/crd/bases/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var c crd
		if err := yaml.Unmarshal(data, &c); err != nil {
			t.Fatal(err)
		}
		found[c.Spec.Names.Kind] = c
	}
	if len(found) != 2 {
		t.Fatalf("%d CRDs in %v, want two", len(found), files)
	}
	return found
}

// walk visits every field of a schema, with its path from the root.
func walk(path string, s *schema, visit func(path string, s *schema)) {
	visit(path, s)
	for name := range s.Properties {
		walk(strings.TrimPrefix(path+"."+name, "."), s.Properties[name], visit)
	}
	if s.Items != nil {
		walk(path+"[]", s.Items, visit)
	}
}

// TestSchemaIsBoundedAndExplained holds every field of both kinds to the house's rules, so that a new one is held to them too.
func TestSchemaIsBoundedAndExplained(t *testing.T) {
	for kind, crd := range crds(t) {
		t.Run(kind, func(t *testing.T) {
			for _, v := range crd.Spec.Versions {
				walk("", v.Schema.OpenAPIV3Schema, func(path string, s *schema) {
					if exceptions[path] != "" {
						return
					}
					for _, missing := range missingIn(path, s) {
						t.Errorf("%s has no %s", path, missing)
					}
				})
			}
		})
	}
}

// missingIn is what a field lacks. An item of a list is described by the list.
func missingIn(path string, s *schema) (missing []string) {
	if s.Description == "" && !strings.HasSuffix(path, "[]") {
		missing = append(missing, "description")
	}
	switch s.Type {
	case "string":
		if s.MaxLength == nil && len(s.Enum) == 0 && s.Format != "date-time" && !boundedByRule(s) {
			missing = append(missing, "maxLength")
		}
	case "array":
		if s.MaxItems == nil {
			missing = append(missing, "maxItems")
		}
		if s.ListType == "" {
			missing = append(missing, "x-kubernetes-list-type")
		}
	case "integer":
		if s.Minimum == nil {
			missing = append(missing, "minimum")
		}
		if s.Maximum == nil && s.Format == "" {
			missing = append(missing, "maximum")
		}
	case "object":
		if len(s.Properties) == 0 || s.AdditionalProperties != nil || s.Open {
			missing = append(missing, "closed set of properties")
		}
	case "boolean":
	default:
		missing = append(missing, "known type")
	}
	return missing
}

// boundedByRule reports whether a rule bounds the length of a duration, whose marker cannot bear a maxLength.
func boundedByRule(s *schema) bool {
	for _, r := range s.Rules {
		if strings.HasPrefix(r.Rule, "size(self) <= ") {
			return true
		}
	}
	return false
}

// TestRulesNameTheirField looks at what a person is told: the message names the field that the rule is about.
func TestRulesNameTheirField(t *testing.T) {
	rules := 0
	for kind, crd := range crds(t) {
		for _, v := range crd.Spec.Versions {
			walk("", v.Schema.OpenAPIV3Schema, func(path string, s *schema) {
				field := strings.TrimSuffix(path[strings.LastIndexByte(path, '.')+1:], "[]")
				if path == "" {
					field = "metadata.name" // the only other field that a rule at the root can see
				}
				for _, r := range s.Rules {
					rules++
					if !strings.Contains(r.Message, field) {
						t.Errorf(
							"%s %s: the message of rule %q does not name %s: %q", kind, path, r.Rule, field, r.Message,
						)
					}
				}
			})
		}
	}
	if rules < 15 {
		t.Errorf("%d rules were looked at: the walk missed some", rules)
	}
}

func TestPrinterColumns(t *testing.T) {
	want := map[string][]string{
		"Tenant":        {"Ready", "Reason", "Suspended", "Bucket", "Backlog", "Age", "Message (wide)"},
		"CallRecording": {"Tenant", "Call", "Phase", "Attempts", "Size", "Age", "Key (wide)", "Message (wide)"},
	}
	for kind, crd := range crds(t) {
		var got []string
		for _, c := range crd.Spec.Versions[0].Columns {
			if c.Priority > 0 {
				c.Name += " (wide)"
			}
			got = append(got, c.Name)
		}
		if !slices.Equal(got, want[kind]) {
			t.Errorf("%s: columns %q, want %q", kind, got, want[kind])
		}
	}
}
