package password

import (
	_ "embed"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
)

//go:embed common.txt
var common string

// ranks are the common words with their places, read when the first password is set: most processes never need them.
var ranks = sync.OnceValue(func() map[string]int {
	lines := strings.Split(strings.TrimSpace(common), "\n")
	words := make(map[string]int, len(lines))
	for _, w := range lines {
		if !strings.HasPrefix(w, "#") {
			words[w] = len(words) + 1
		}
	}
	return words
})

const (
	// charBits is what a character costs that belongs to nothing: ten guesses, as in zxcvbn, since nobody types all characters alike.
	charBits = 3.33
	// variantBits is the price of writing a word backwards, in capitals or with digits for letters.
	variantBits = 1
	// stepsBits is the price of counting or of walking over the keys, without the length.
	stepsBits = 2
	// turnBits is the price of a change of direction on the keys.
	turnBits = 2
	// minRun is the shortest count, walk or repetition.
	minRun  = 3
	maxWord = 24
)

// easy tells whether the shortest description of a password as words, counts, walks over the keys, repetitions of what stands before, and
// single characters has less than minBits: that is what a guess must get right. Its work is bounded by MaxLength squared.
func easy(password string, context map[string]bool) bool {
	text := []rune(password)
	best := make([]float64, len(text)+1)
	for i := range text {
		best[i+1] = math.Inf(1)
	}
	variants := newVariants(text)
	for i := range text {
		if slices.Min(best[i:]) >= minBits { // whatever follows, it leads on from there
			return false
		}
		reach := func(length int, price float64) {
			best[i+length] = min(best[i+length], best[i]+price)
		}
		reach(1, charBits)
		for n := minRun; n <= min(maxWord, len(text)-i); n++ {
			reach(n, variants.word(i, i+n, context))
		}
		for n, price := range runs(text[i:], countStep) {
			reach(n, price)
		}
		for n, price := range runs(text[i:], keyStep) {
			reach(n, price)
		}
		for n, price := range repeats(text, i) {
			reach(n, price)
		}
	}
	return best[len(text)] < minBits
}

// variants are the readings of a password in which a word may hide.
type variants struct {
	lower    string
	readings []string
	at       []int // the byte at which each character begins
}

// leet has the letters that digits and signs stand for; 1 is an i in the first reading and an l in the second.
var leet = [2]*strings.Replacer{
	strings.NewReplacer(
		"0", "o", "1", "i", "!", "i", "3", "e", "4", "a", "@", "a", "5", "s", "$", "s", "7", "t", "8", "b", "9", "g",
	),
	strings.NewReplacer(
		"0", "o", "1", "l", "!", "i", "3", "e", "4", "a", "@", "a", "5", "s", "$", "s", "7", "t", "8", "b", "9", "g",
	),
}

func newVariants(text []rune) *variants {
	v := &variants{at: make([]int, len(text)+1)}
	var lower strings.Builder
	for i, r := range text {
		lower.WriteRune(unicode.ToLower(r))
		v.at[i+1] = lower.Len()
	}
	v.lower = lower.String()
	v.readings = []string{leet[0].Replace(v.lower), leet[1].Replace(v.lower)} // a byte for a byte
	return v
}

// word is the price of the characters from i to j as one word.
func (v *variants) word(i, j int, context map[string]bool) float64 {
	plain := v.lower[v.at[i]:v.at[j]]
	best := price(plain, context)
	for _, reading := range v.readings {
		best = min(best, price(reading[v.at[i]:v.at[j]], context)+variantBits)
	}
	return min(best, price(reversed(plain), context)+variantBits)
}

// price returns the price of a word in lower case; infinite if it is not a word.
func price(word string, context map[string]bool) float64 {
	if context[word] {
		return 1
	}
	if rank, ok := ranks()[word]; ok {
		return math.Log2(float64(rank) + 1)
	}
	return math.Inf(1)
}

func reversed(s string) string {
	runes := []rune(s)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes)
}

// step is from one character to the next: where it leads, and whether that is a step at all.
type step func(from, to rune) (direction [2]int, ok bool)

// runs yields the lengths and prices of the runs of steps that a text begins with.
func runs(text []rune, s step) func(yield func(int, float64) bool) {
	return func(yield func(int, float64) bool) {
		var last [2]int
		turns := 0
		for n := 1; n < len(text); n++ {
			direction, ok := s(text[n-1], text[n])
			if !ok {
				return
			}
			if n > 1 && direction != last {
				turns++
			}
			last = direction
			price := charBits + stepsBits + math.Log2(float64(n)) + turnBits*float64(turns)
			if n+1 >= minRun && !yield(n+1, price) {
				return
			}
		}
	}
}

// countStep is a step of one or two in the order of characters, up or down.
func countStep(from, to rune) ([2]int, bool) {
	d := int(to - from)
	return [2]int{d}, d != 0 && d >= -2 && d <= 2
}

var keys = func() map[rune][2]int {
	at := map[rune][2]int{}
	for row, text := range []string{"1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"} {
		for column, r := range text {
			at[r] = [2]int{row, column}
		}
	}
	return at
}()

// keyStep returns the step to an adjacent key, in the same row or the next.
func keyStep(from, to rune) ([2]int, bool) {
	a, known := keys[unicode.ToLower(from)]
	b, both := keys[unicode.ToLower(to)]
	d := [2]int{b[0] - a[0], b[1] - a[1]}
	return d, known && both && d != [2]int{} && max(d[0], -d[0], d[1], -d[1]) <= 1
}

// repeats yields the lengths and prices of the repetitions, from i on, of what began before.
func repeats(text []rune, i int) func(yield func(int, float64) bool) {
	return func(yield func(int, float64) bool) {
		longest := 0
		for j := range i {
			n := 0
			for i+n < len(text) && text[j+n] == text[i+n] {
				n++
			}
			longest = max(longest, n)
		}
		for n := minRun; n <= longest; n++ {
			if !yield(n, math.Log2(float64(i)+1)+math.Log2(float64(n))) {
				return
			}
		}
	}
}
