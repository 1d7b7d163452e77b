package exotel

import "testing"

func TestSameNumber(t *testing.T) {
	for number, want := range map[string]string{
		"+918047491899":  "+918047491899",
		"+8047491899":    "+918047491899",
		"+6581234567":    "+916581234567",
		"+442071838750":  "+442071838750",
		"+15550100":      "+15550100",
		"+4420718387":    "+914420718387",
		"+914420718387":  "+914420718387",
		"+9144207183871": "+9144207183871",
	} {
		if got := SameNumber(number); got != want {
			t.Errorf("SameNumber(%q) is %q, want %q", number, got, want)
		}
	}
}

// FuzzSameNumber checks that all numbers a text may mean are one number: then no text leads to two Tenants.
func FuzzSameNumber(f *testing.F) {
	for _, seed := range []string{
		"08047491899", "8047491899", "+91 80474 91899", "00918047491899", "6581234567", "0091(80)474-91899",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		numbers := E164(text)
		for _, number := range numbers {
			if SameNumber(number) != SameNumber(numbers[0]) {
				t.Errorf("%q may mean %q and %q, which could have two owners", text, number, numbers[0])
			}
			if SameNumber(SameNumber(number)) != SameNumber(number) {
				t.Errorf("SameNumber changes its own result for %q", number)
			}
		}
	})
}
