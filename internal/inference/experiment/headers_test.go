package experiment

import "testing"

func TestAttributeOf(t *testing.T) {
	for _, c := range []struct{ list, name, want string }{
		{"", "plan", ""},
		{"plan=pro", "plan", "pro"},
		{" region = eu , plan=pro,plan=free", "plan", "pro"},
		{"region=eu,plan", "plan", ""},
		{"xplan=pro", "plan", ""},
		{"plan=a=b,,", "plan", "a=b"},
	} {
		if got := AttributeOf(c.list, c.name); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.name, c.list, got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { AttributeOf("region=eu, plan=pro", "plan") }); n != 0 {
		t.Errorf("it allocates %.0f times", n)
	}
}
