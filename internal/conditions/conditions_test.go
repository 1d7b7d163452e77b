package conditions_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
)

const (
	ready       = v1alpha1.ConditionReady
	reconciling = v1alpha1.ConditionReconciling
	stalled     = v1alpha1.ConditionStalled
)

func condition(kind string, status metav1.ConditionStatus) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: "Why", Message: "what", ObservedGeneration: 3}
}

func object(list ...metav1.Condition) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "support", Generation: 3}}
	t.SetConditions(list)
	return t
}

// marks are the three ways to say where an object is, each with what it must leave.
var marks = map[string]struct {
	mark func(conditions.Object, string, string)
	want []metav1.Condition
}{
	"ready": {conditions.MarkReady, []metav1.Condition{condition(ready, metav1.ConditionTrue)}},
	"reconciling": {
		conditions.MarkReconciling,
		[]metav1.Condition{condition(reconciling, metav1.ConditionTrue), condition(ready, metav1.ConditionFalse)},
	},
	"stalled": {
		conditions.MarkStalled,
		[]metav1.Condition{condition(stalled, metav1.ConditionTrue), condition(ready, metav1.ConditionFalse)},
	},
}

var anyOrder = cmp.Options{
	cmpopts.SortSlices(func(a, b metav1.Condition) bool { return a.Type < b.Type }),
	cmpopts.IgnoreFields(metav1.Condition{}, "LastTransitionTime"),
}

// TestMark goes from every state to every other one, so that none leaves something of the one before.
func TestMark(t *testing.T) {
	for from, before := range marks {
		for to, after := range marks {
			t.Run(from+" to "+to, func(t *testing.T) {
				tenant := object(condition(v1alpha1.ConditionSuspended, metav1.ConditionTrue))
				before.mark(tenant, "Before", "before")
				tenant.Status.ObservedGeneration = 0
				after.mark(tenant, "Why", "what")
				want := append(
					[]metav1.Condition{condition(v1alpha1.ConditionSuspended, metav1.ConditionTrue)},
					after.want...)
				if diff := cmp.Diff(want, tenant.GetConditions(), anyOrder); diff != "" {
					t.Errorf("conditions (-want +got):\n%s", diff)
				}
				if err := conditions.Check(tenant); err != nil {
					t.Errorf("it breaks the contract: %v", err)
				}
				if tenant.Status.ObservedGeneration != tenant.Generation {
					t.Errorf("observed generation %d, want %d", tenant.Status.ObservedGeneration, tenant.Generation)
				}
			})
		}
	}
}

func TestTransitionTime(t *testing.T) {
	long := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	for name, tc := range map[string]struct {
		status          metav1.ConditionStatus
		reason, message string
		generation      int64
		wantKept        bool
	}{
		"nothing changes":           {metav1.ConditionFalse, "Why", "what", 3, true},
		"another reason":            {metav1.ConditionFalse, "Other", "what", 3, true},
		"another message":           {metav1.ConditionFalse, "Why", "something else", 3, true},
		"another generation":        {metav1.ConditionFalse, "Why", "what", 4, true},
		"another status":            {metav1.ConditionTrue, "Why", "what", 3, false},
		"another status and reason": {metav1.ConditionUnknown, "Other", "what", 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			old := condition(ready, metav1.ConditionFalse)
			old.LastTransitionTime = long
			tenant := object(old)
			tenant.Generation = tc.generation
			conditions.Set(tenant, ready, tc.status, tc.reason, tc.message)
			got := apimeta.FindStatusCondition(tenant.GetConditions(), ready)
			want := &metav1.Condition{
				Type:               ready,
				Status:             tc.status,
				Reason:             tc.reason,
				Message:            tc.message,
				ObservedGeneration: tc.generation,
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(metav1.Condition{}, "LastTransitionTime")); diff != "" {
				t.Errorf("condition (-want +got):\n%s", diff)
			}
			if kept := got.LastTransitionTime.Equal(&long); kept != tc.wantKept {
				t.Errorf(
					"transition time %v, was %v: kept %v, want %v", got.LastTransitionTime, long, kept, tc.wantKept,
				)
			}
		})
	}
}

// TestMarkAgain changes nothing at all, so that a reconcile that finds nothing new writes nothing.
func TestMarkAgain(t *testing.T) {
	for name, tc := range marks {
		t.Run(name, func(t *testing.T) {
			tenant := object()
			tc.mark(tenant, "Why", "what")
			list := tenant.GetConditions()
			for i := range list {
				list[i].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Hour))
			}
			tenant.SetConditions(list)
			before := tenant.DeepCopy()
			tc.mark(tenant, "Why", "what")
			if diff := cmp.Diff(before.GetConditions(), tenant.GetConditions()); diff != "" {
				t.Errorf("the second time changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestMessageIsBounded(t *testing.T) {
	const bound = 32768
	for name, tc := range map[string]struct {
		message string
		want    int // bytes
	}{
		"short":                     {"x", 1},
		"as long as may be":         {strings.Repeat("x", bound), bound},
		"one more":                  {strings.Repeat("x", bound+1), bound},
		"cut before a character":    {strings.Repeat("x", bound) + "é", bound},
		"cut within a character":    {"x" + strings.Repeat("é", bound), bound - 1},
		"bytes that are not text":   {"a\xffb", 2},
		"characters of three bytes": {strings.Repeat("あ", bound), bound - 1},
		"an escape sequence":        {"\x1b[31mred", 8},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := object()
			conditions.MarkStalled(tenant, "Why", tc.message)
			for _, c := range tenant.GetConditions() {
				if len(c.Message) != tc.want || !utf8.ValidString(c.Message) {
					t.Errorf(
						"%s: message of %d bytes, valid UTF-8 %v; want %d bytes",
						c.Type,
						len(c.Message),
						utf8.ValidString(c.Message),
						tc.want,
					)
				}
			}
		})
	}
}

func TestDelete(t *testing.T) {
	tenant := object(condition(ready, metav1.ConditionTrue), condition(stalled, metav1.ConditionTrue))
	conditions.Delete(tenant, stalled)
	conditions.Delete(tenant, reconciling) // which is not there
	if diff := cmp.Diff(
		[]metav1.Condition{condition(ready, metav1.ConditionTrue)}, tenant.GetConditions(), anyOrder,
	); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	change := func(f func(*metav1.Condition)) metav1.Condition {
		c := condition(v1alpha1.ConditionSuspended, metav1.ConditionTrue)
		f(&c)
		return c
	}
	yes := metav1.ConditionTrue
	no := metav1.ConditionFalse
	unknown := metav1.ConditionUnknown
	for name, tc := range map[string]struct {
		list []metav1.Condition
		want string // part of the complaint; empty: none
	}{
		"no condition at all": {nil, "no Ready condition"},
		"no Ready":            {[]metav1.Condition{condition(stalled, yes)}, "no Ready condition"},
		"Reconciling False": {
			[]metav1.Condition{condition(ready, no), condition(reconciling, no)},
			"must be True or absent",
		},
		"Reconciling Unknown": {
			[]metav1.Condition{condition(ready, no), condition(reconciling, unknown)},
			"must be True or absent",
		},
		"Stalled False": {
			[]metav1.Condition{condition(ready, no), condition(stalled, no)},
			"must be True or absent",
		},
		"Reconciling and Ready": {
			[]metav1.Condition{condition(ready, yes), condition(reconciling, yes)},
			"absent when Ready",
		},
		"Stalled and Ready": {
			[]metav1.Condition{condition(ready, yes), condition(stalled, yes)},
			"absent when Ready",
		},
		"Reconciling and Stalled": {
			[]metav1.Condition{condition(ready, no), condition(reconciling, yes), condition(stalled, yes)},
			"both",
		},
		"no reason": {
			[]metav1.Condition{condition(ready, yes), change(func(c *metav1.Condition) { c.Reason = "" })},
			"lacks a reason",
		},
		"no message": {
			[]metav1.Condition{condition(ready, yes), change(func(c *metav1.Condition) { c.Message = "" })},
			"lacks a reason or a message",
		},
		"a generation to come": {
			[]metav1.Condition{condition(ready, yes), change(func(c *metav1.Condition) { c.ObservedGeneration = 4 })},
			"generation to come",
		},
		"an old generation": {
			[]metav1.Condition{condition(ready, yes), change(func(c *metav1.Condition) { c.ObservedGeneration = 1 })},
			"",
		},
		"ready":         {[]metav1.Condition{condition(ready, yes)}, ""},
		"reconciling":   {[]metav1.Condition{condition(ready, no), condition(reconciling, yes)}, ""},
		"stalled":       {[]metav1.Condition{condition(ready, no), condition(stalled, yes)}, ""},
		"not known yet": {[]metav1.Condition{condition(ready, unknown)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := conditions.Check(object(tc.list...))
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
