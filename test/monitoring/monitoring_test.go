package monitoring_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// documented returns the metrics and their labels that docs/metrics.md has, which a test of hooks/metrics holds against the
// program.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{"up": {"job", "instance"}}
	for _, row := range regexp.MustCompile("(?m)^\\| `(crio_erofs_[a-z_]+)` \\| ([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		names := append(strings.FieldsFunc(row[2], func(r rune) bool { return r == '`' || r == ',' || r == ' ' }), "instance", "job")
		known[row[1]] = names
		if strings.HasSuffix(row[1], "_duration_seconds") { // a histogram
			known[row[1]+"_bucket"] = append(names, "le")
		}
	}
	if len(known) < 10 {
		t.Fatalf("docs/metrics.md has only %v", known)
	}
	return known
}

// checkQuery has Prometheus parse a query, and makes sure that its metrics and labels exist. It returns the metrics.
func checkQuery(t *testing.T, known map[string][]string, query string) (names []string) {
	t.Helper()
	expr, err := parser.ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return nil
	}
	var has []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		if known[selector.Name] == nil {
			t.Errorf("%s: there is no metric %q", query, selector.Name)
		}
		names, has = append(names, selector.Name), append(has, known[selector.Name]...)
		for _, m := range selector.LabelMatchers {
			if m.Name != labels.MetricName && !contains(known[selector.Name], m.Name) {
				t.Errorf("%s: %s has no label %q", query, selector.Name, m.Name)
			}
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			for _, label := range a.Grouping {
				if !contains(has, label) {
					t.Errorf("%s: nothing has the label %q", query, label)
				}
			}
		}
		return nil
	})
	return names
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// TestRules has the alerts read as Prometheus reads them, templates included.
func TestRules(t *testing.T) {
	known := documented(t)
	groups, errs := rulefmt.ParseFile("../../contrib/prometheus/crio-erofs.rules.yaml", false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if len(checkQuery(t, known, r.Expr)) == 0 || r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
				r.Labels["severity"] == "" {
				t.Errorf("%+v", r)
			}
		}
	}
}

// dashboard is the part of Grafana's model that has queries.
type dashboard struct {
	Title, UID string
	Panels     []struct {
		ID      int
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ Expr, RefID string }
	}
	Templating struct {
		List []struct {
			Name  string
			Query any
		}
	}
}

// TestDashboard makes sure that every query can be asked, that every metric of ours is shown, and that panels do not overlap.
func TestDashboard(t *testing.T) {
	known := documented(t)
	text, err := os.ReadFile("../../contrib/grafana/crio-erofs.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	// What Grafana puts in place of its variables.
	variables := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	shown, ids, cells := map[string]bool{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q: its id is taken, or it asks nothing", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			for _, name := range checkQuery(t, known, variables.Replace(target.Expr)) {
				shown[strings.TrimSuffix(name, "_bucket")] = true
			}
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panels %q and %q overlap at %d, %d", p.Title, other, x, y)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	for name := range known {
		// When the counters began is for whoever doubts them.
		if !shown[strings.TrimSuffix(name, "_bucket")] && name != "up" && !strings.Contains(name, "since_timestamp") {
			t.Errorf("no panel shows %s", name)
		}
	}
	for _, v := range d.Templating.List {
		if q, ok := v.Query.(map[string]any); ok && !strings.HasPrefix(q["query"].(string), "label_values(crio_erofs_build_info, ") {
			t.Errorf("variable %s asks %v", v.Name, q)
		}
	}
}
