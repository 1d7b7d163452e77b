package reconcile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// conditionTypes returns all condition types that the API package declares.
func conditionTypes(t *testing.T) (types []string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(kubetest.Root(), "api/v1alpha1/conditions.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`\tCondition\w+ += "(\w+)"`).FindAllSubmatch(source, -1) {
		types = append(types, string(match[1]))
	}
	slices.Sort(types)
	return types
}

// TestOwners checks that each condition and each field of a status has exactly one owner.
func TestOwners(t *testing.T) {
	common := []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}
	for name, tc := range map[string]struct {
		owners         []reconcile.Owner
		status         any
		wantConditions []string
	}{
		"Tenant": {
			owners: []reconcile.Owner{
				reconcile.OfTenant, reconcile.OfUploadJob, reconcile.OfBackfill, reconcile.OfPartialCounter,
			},
			status:         v1alpha1.TenantStatus{},
			wantConditions: conditionTypes(t),
		},
		"CallRecording": {
			owners:         []reconcile.Owner{reconcile.OfCallRecording},
			status:         v1alpha1.CallRecordingStatus{},
			wantConditions: common,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var conditions, fields []string
			for _, owner := range tc.owners {
				conditions = append(conditions, owner.Conditions...)
				fields = append(fields, owner.Fields...)
			}
			slices.Sort(conditions)
			if diff := cmp.Diff(tc.wantConditions, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			slices.Sort(fields)
			if diff := cmp.Diff(fieldsOf(tc.status), fields); diff != "" {
				t.Errorf("fields of the status (-want +got):\n%s", diff)
			}
			for _, owner := range tc.owners {
				for _, added := range owner.Adds {
					if !slices.Contains(conditions, added) || slices.Contains(owner.Conditions, added) {
						t.Errorf("%s adds %s: another writer must own it", owner.Name, added)
					}
				}
			}
		})
	}
}

// fieldsOf returns the JSON names of a status's fields, sorted, without its conditions.
func fieldsOf(status any) (names []string) {
	for field := range reflect.TypeOf(status).Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "conditions" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestStatusIsWrittenByWriters has all controllers write the status of an object through a Writer, which knows the
// owner.
func TestStatusIsWrittenByWriters(t *testing.T) {
	root := filepath.Join("..", "..")
	found := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(source), ".Status()") {
			return nil
		}
		found++
		if filepath.Base(path) != "write.go" {
			t.Errorf("%s writes the status by itself; use a reconcile.Writer", path)
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d files write a status: %v; want that of the Writer", found, err)
	}
}
