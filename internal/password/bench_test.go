package password

import (
	"strings"
	"testing"
)

func BenchmarkVerify(b *testing.B) {
	hasher := NewHasher(Options{})
	for b.Loop() {
		if _, _, err := hasher.Verify(b.Context(), good, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, pw := range map[string]string{
		"short":   good,
		"longest": pictures(MaxLength),
		"weak":    strings.Repeat("qwertz13", MaxLength/8),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Check(pw, "jane.doe@acme.example", "acme/support")
			}
		})
	}
}
