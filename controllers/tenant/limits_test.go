package tenant

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestLimit lowers what a Tenant sets to the platform's bounds, and shows the result.
func TestLimit(t *testing.T) {
	ceilings := Ceilings{MaxParallelism: 16, MaxStreams: 1000}
	for name, tc := range map[string]struct {
		ceilings    Ceilings
		parallelism int32
		streams     int
		want        v1alpha1.Limits
	}{
		"below the bounds":   {ceilings, 8, 200, v1alpha1.Limits{MaxParallelism: 8, MaxStreams: 200}},
		"above the bounds":   {ceilings, 64, 100_000, v1alpha1.Limits{MaxParallelism: 16, MaxStreams: 1000}},
		"without bounds":     {Ceilings{}, 64, 100_000, v1alpha1.Limits{MaxParallelism: 64, MaxStreams: 100_000}},
		"without audio":      {ceilings, 8, 0, v1alpha1.Limits{MaxParallelism: 8}},
		"made by an old API": {ceilings, 0, 0, v1alpha1.Limits{MaxParallelism: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scope{tenant: &v1alpha1.Tenant{}}
			s.tenant.Spec.Recordings.MaxParallelism = tc.parallelism
			var audio *tenantconfig.Audio
			if tc.streams > 0 {
				audio = &tenantconfig.Audio{MaxStreams: tc.streams}
			}
			(&Reconciler{Ceilings: tc.ceilings}).limit(s, audio)
			if diff := cmp.Diff(&tc.want, s.tenant.Status.Limits); diff != "" {
				t.Errorf("the status (-want +got):\n%s", diff)
			}
			if audio != nil && audio.MaxStreams != int(tc.want.MaxStreams) {
				t.Errorf("the data plane gets %d streams, want %d", audio.MaxStreams, tc.want.MaxStreams)
			}
		})
	}
}

// TestBackfillInterval raises the interval of a Tenant to the platform's bound, and shows the result.
func TestBackfillInterval(t *testing.T) {
	every := func(d time.Duration) *v1alpha1.BackfillSpec {
		return &v1alpha1.BackfillSpec{Interval: &metav1.Duration{Duration: d}}
	}
	for name, tc := range map[string]struct {
		spec  *v1alpha1.BackfillSpec
		least time.Duration
		want  *metav1.Duration
	}{
		"below the bound":    {every(time.Minute), 5 * time.Minute, &metav1.Duration{Duration: 5 * time.Minute}},
		"above the bound":    {every(time.Hour), 5 * time.Minute, &metav1.Duration{Duration: time.Hour}},
		"without a bound":    {every(time.Minute), 0, &metav1.Duration{Duration: time.Minute}},
		"made by an old API": {&v1alpha1.BackfillSpec{}, 5 * time.Minute, &metav1.Duration{Duration: 15 * time.Minute}},
		"without backfill":   {nil, 5 * time.Minute, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scope{tenant: &v1alpha1.Tenant{}}
			s.tenant.Spec.Exotel.Backfill = tc.spec
			(&Reconciler{Ceilings: Ceilings{MinBackfillInterval: tc.least}}).limit(s, nil)
			if diff := cmp.Diff(tc.want, s.tenant.Status.Limits.BackfillInterval); diff != "" {
				t.Errorf("the status (-want +got):\n%s", diff)
			}
		})
	}
}
