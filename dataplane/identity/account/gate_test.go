package account

import "testing"

func TestGate(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []string // who has a place, as address and email
		next string
		want bool
	}{
		"empty":                        {nil, "a1", true},
		"within its share":             {[]string{"a1"}, "a2", true},
		"over its share":               {[]string{"a1", "a2"}, "a3", false},
		"over its share, the same":     {[]string{"a1", "a2"}, "a2", true},
		"another over its share":       {[]string{"a1", "a2"}, "b1", true},
		"the same many times":          {[]string{"a1", "a1", "a1", "a1"}, "a2", true},
		"full":                         {[]string{"a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"}, "e1", false},
		"full, the same":               {[]string{"a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"}, "d2", true},
		"full, and within no share":    {[]string{"a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1"}, "a2", false},
		"one less than what is enough": {[]string{"a1", "b1", "c1", "d1", "e1", "f1", "g1"}, "h1", true},
	} {
		t.Run(name, func(t *testing.T) {
			gate := newGate(8)
			var leaves []func()
			for _, a := range tc.in {
				leave, ok := gate.enter(a[:1], a[1:])
				if !ok {
					t.Fatalf("%s is refused", a)
				}
				leaves = append(leaves, leave)
			}
			leave, got := gate.enter(tc.next[:1], tc.next[1:])
			if got != tc.want {
				t.Errorf("%s may enter: %t, want %t", tc.next, got, tc.want)
			}
			if got {
				leave()
			}
			for _, leave := range leaves {
				leave()
			}
			if gate.in != 0 || len(gate.of) != 0 { // an address must not be remembered for ever
				t.Errorf("%d are in, of %v, after all have left", gate.in, gate.of)
			}
		})
	}
}

func TestGateOfOne(t *testing.T) {
	if _, ok := newGate(1).enter("a", "1"); !ok {
		t.Error("a share is nothing")
	}
}
