package suspension

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
)

func TestDecide(t *testing.T) {
	const all = "voice.caly.dev/suspend"
	platform := func(reason string) Suspension {
		return Suspension{
			Reason:  v1alpha1.ReasonPlatformSuspended,
			Message: "the platform has suspended this Tenant: webhooks are refused and uploads wait" + reason,
		}
	}
	own := Suspension{
		Reason:  v1alpha1.ReasonSuspended,
		Message: "spec.suspend is true: webhooks are refused and uploads wait",
	}
	tests := map[string]struct {
		spec      *bool
		tenant    map[string]string // annotations of the Tenant, which its author writes
		namespace map[string]string
		want      Suspension
	}{
		"nobody suspends it": {},
		"its spec": {
			spec: ptr.To(true),
			want: own,
		},
		"its spec says no": {
			spec: ptr.To(false),
		},
		"the namespace": {
			namespace: map[string]string{all: "unpaid"},
			want:      platform("; reason: unpaid"),
		},
		"the namespace, and the spec says no": {
			spec:      ptr.To(false),
			namespace: map[string]string{all: "unpaid"},
			want:      platform("; reason: unpaid"),
		},
		"the namespace, and the spec too": {
			spec:      ptr.To(true),
			namespace: map[string]string{all: "unpaid"},
			want:      platform("; reason: unpaid"),
		},
		"the namespace, without a reason": {
			namespace: map[string]string{all: ""},
			want:      platform(""),
		},
		"the namespace, with true": {
			namespace: map[string]string{all: "true"},
			want:      platform(""),
		},
		"the namespace, with false": {
			namespace: map[string]string{all: "false"},
		},
		"the namespace, for this Tenant": {
			namespace: map[string]string{all + ".support": "fraud"},
			want:      platform("; reason: fraud"),
		},
		"the namespace, for another Tenant": {
			namespace: map[string]string{all + ".sales": "fraud"},
		},
		"the namespace says no, but not for this Tenant": {
			namespace: map[string]string{
				all:              "false",
				all + ".support": "fraud",
			},
			want: platform("; reason: fraud"),
		},
		"the Tenant's own annotation says no": {
			tenant:    map[string]string{all: "false"},
			namespace: map[string]string{all: "unpaid"},
			want:      platform("; reason: unpaid"),
		},
		"the Tenant's own annotation alone": {
			tenant: map[string]string{all: "unpaid"},
		},
		"a reason of several lines": {
			namespace: map[string]string{all: "unpaid\n since\tMay \x00"},
			want:      platform("; reason: unpaid  since May"),
		},
		"a reason that is too long": {
			namespace: map[string]string{all: strings.Repeat("é", 200)},
			want:      platform("; reason: " + strings.Repeat("é", 126) + " ..."),
		},
		"a long reason that is cut within a character": {
			namespace: map[string]string{all: "a" + strings.Repeat("é", 200)},
			want:      platform("; reason: a" + strings.Repeat("é", 125) + " ..."),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{
				Namespace:   "acme",
				Name:        "support",
				Annotations: tt.tenant,
			}}
			tenant.Spec.Suspend = tt.spec
			if diff := cmp.Diff(tt.want, decide(tenant, tt.namespace)); diff != "" {
				t.Errorf("decide (-want +got):\n%s", diff)
			}
		})
	}
}
