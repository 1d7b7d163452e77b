package intake

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// applied returns CallRecordings that a person applied in a namespace.
func applied(namespace string, n int) []v1alpha1.CallRecording {
	list := make([]v1alpha1.CallRecording, n)
	for i := range list {
		list[i].Namespace, list[i].Name = namespace, fmt.Sprint("by-hand-", i)
		list[i].Spec.TenantRef.Name = "support"
	}
	return list
}

// TestRoom counts what exists in each namespace, made by the operator or by people.
func TestRoom(t *testing.T) {
	const total, perNamespace = 2000, 1500
	for name, tc := range map[string]struct {
		exist      map[string]int
		namespaces int
		want       int // for the namespace "quiet"
	}{
		"alone":                               {nil, 1, perNamespace},
		"its own":                             {map[string]int{"quiet": 1400}, 2, 100},
		"more of its own than it may have":    {map[string]int{"quiet": 1600}, 2, -100},
		"what others leave":                   {map[string]int{"noisy": 600}, 2, 1400},
		"a namespace with all that it may":    {map[string]int{"noisy": 1500}, 2, 1000},
		"a namespace with more than it may":   {map[string]int{"noisy": 9000}, 20, 500},
		"several namespaces take all":         {map[string]int{"noisy": 9000, "noisy2": 9000}, 4, 500},
		"several take all, and it has some":   {map[string]int{"noisy": 9000, "noisy2": 9000, "quiet": 100}, 4, 400},
		"a namespace without Tenants does it": {map[string]int{"noisy": 9000}, 1, 1500},
	} {
		var list []v1alpha1.CallRecording
		for namespace, n := range tc.exist {
			list = append(list, applied(namespace, n)...)
		}
		if got := countsOf(list, tc.namespaces).room("quiet", total); got != tc.want {
			t.Errorf("%s: room for %d, want %d", name, got, tc.want)
		}
	}
}

// TestNamespaceLeavesRoomToOthers lets an author apply more CallRecordings by hand than the total. Those of a Tenant of
// another namespace are made all the same, in the same number of rounds.
func TestNamespaceLeavesRoomToOthers(t *testing.T) {
	rig := controllertest.New(t)
	noisy := rig.NewNamespace(t)
	flooding := tenanttest.New(noisy, "support")
	rig.Create(t, flooding)
	rig.SetDigest(t, flooding, "compiled")
	tenant := rig.Tenant(t, "support")
	in, api := newIntake(rig)
	in.MaxTotal = 40
	api.namespaces = append(api.namespaces, noisy)
	for i, o := range applied(noisy, 41) {
		o.Spec.CallSID = fmt.Sprint("call", i)
		o.Spec.SourceURL = "https://recordings.exotel.com/a.mp3"
		rig.Create(t, &o)
	}
	enqueueMany(t, rig, tenant.ID(), 5)
	runRound(t, in)
	if got := len(views(t, rig, "support")); got != 5 {
		t.Errorf("%d CallRecordings, want 5", got)
	}
}

// TestNamespaceTakesTurns bounds what the Tenants of a namespace get in one round, and gives each of them its turn.
func TestNamespaceTakesTurns(t *testing.T) {
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	names := []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		rig.Tenant(t, name)
		enqueueMany(t, rig, rig.Namespace+"/"+name, 60)
	}
	for round := range 5 {
		runRound(t, in)
		total := 0
		for _, name := range names {
			total += len(views(t, rig, name))
		}
		if want := namespacePerRound * (round + 1); total != want {
			t.Errorf("%d CallRecordings after round %d, want %d", total, round+1, want)
		}
	}
	for _, name := range names {
		if got := len(views(t, rig, name)); got != 2*perRound {
			t.Errorf("%s has %d CallRecordings after five rounds, want %d", name, got, 2*perRound)
		}
	}
}

// TestManyTenants looks at a bounded number of Tenants of a namespace in a round, and at all of them in turn.
func TestManyTenants(t *testing.T) {
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	var list []*v1alpha1.Tenant
	for i := range 120 {
		tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{
			Namespace: rig.Namespace,
			Name:      fmt.Sprintf("t%03d", i),
		}}
		tenant.Status.ConfigDigest = "compiled"
		list = append(list, tenant)
	}
	last := ""
	for round, want := range []string{"t049", "t099", "t029"} {
		var err error
		if last, err = in.namespace(t.Context(), list, last, countsOf(nil, 1)); err != nil || last != want {
			t.Errorf("round %d ended with %s, %v; want %s", round+1, last, err, want)
		}
	}
}
