//! A real Prometheus against a live router: the files of `config/prometheus` are good, every query of every alert and every
//! panel of `config/grafana` has an answer, and what `/metrics` says passes Prometheus' own review.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice_tests::{Daemon, Lab, SystemFile, text};

/// Named rules, translation and a helper, so that there is something of everything.
const POLICY: &str = r#"
zones: {inside: [lan], outside: [wan]}
mangle: {prerouting: [{in: inside, proto: tcp, dport: 21, action: {helper: ftp}}]}
nat: {postrouting: [{out: outside, action: masquerade, name: outbound}]}
filter:
  input: {policy: accept, rules: []}
  forward:
    policy: drop
    rules:
      - {ct: [established, related], action: accept, name: answers}
      - {in: inside, ct: new, action: accept, name: out}
"#;

/// Panels are asked for one second after another; what they call `$__rate_interval` spans several scrapes.
const RATE_INTERVAL: &str = "20s";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files of a folder that end so.
fn files(name: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).expect("a folder of config");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

/// Every alert of the shipped file as its name, and its expression without the comparison at its end: with it the answer is
/// rightly empty, since nothing is wrong. Both ways of firing are `promtool`'s to test.
fn alerts(rules: &Value) -> Vec<(String, String)> {
    let groups = rules["data"]["groups"].as_array().expect("groups of rules").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let alerts = rules.filter(|rule| rule["type"] == "alerting");
    let of = |rule: &Value| {
        let (name, query) =
            (rule["name"].as_str().expect("a name"), rule["query"].as_str().expect("a query"));
        let mut words = query.rsplitn(3, char::is_whitespace);
        let (bound, comparison, value) = (words.next(), words.next(), words.next());
        let compares = comparison.is_some_and(|word| ["==", ">", "<"].contains(&word));
        assert!(compares && bound.is_some_and(|word| word.parse::<f64>().is_ok()), "{name}: {query}");
        (name.to_owned(), value.unwrap_or_default().to_owned())
    };
    alerts.map(of).collect()
}

/// Every query of every panel, with the variables filled in.
fn panels() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for path in files("grafana/dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&read(&path)).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = format!("{}: {}", dashboard["title"], panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().expect("an expression");
                let query = query.replace("$__rate_interval", RATE_INTERVAL);
                let query = query.replace("$instance", ".+").replace("$interface", ".+");
                assert!(!query.contains('$'), "{title}: {query}");
                queries.push((title.clone(), query));
            }
        }
    }
    queries
}

/// Asks Prometheus' API in the router's namespace, where nobody else's is.
fn ask(lab: &Lab, path: &str, query: Option<&str>) -> Value {
    let url = format!("http://127.0.0.1:9090/api/v1/{path}");
    let query = query.map(|query| format!("query={query}"));
    let mut argv = vec!["curl", "-sS", "-m", "5", &url];
    if let Some(query) = &query {
        argv.extend(["--data-urlencode", query]);
    }
    serde_json::from_slice(&lab.run("router", &argv).stdout).unwrap_or_default()
}

#[test]
fn the_rules_for_prometheus_are_right() {
    let lab = Lab::new();
    let name = |file: &str| folder("prometheus").join(file).display().to_string();
    lab.must("router", &["promtool", "check", "config", &name("prometheus.yml")]);
    lab.must("router", &["promtool", "test", "rules", &name("alerts-test.yml")]);
    // Every alert has a test and a heading that says what to do.
    let (alerts, tests) =
        (read(&folder("prometheus/alerts.yml")), read(&folder("prometheus/alerts-test.yml")));
    let operate = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operate.md"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
        assert!(
            operate.contains(&format!("\n### {name}\n")),
            "docs/operate.md does not say what to do: {name}"
        );
        let runbook = format!("runbook: docs/operate.md#{}\n", name.to_lowercase());
        assert!(alerts.contains(&runbook), "{name} leads nowhere");
    }
}

#[test]
fn prometheus_answers_every_query_of_panels_and_alerts() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), POLICY);
    // As shipped, but in a hurry.
    let config = read(&folder("prometheus/prometheus.yml")).replace("15s", "1s");
    let rules = folder("prometheus").canonicalize().expect("config/prometheus");
    let config = config.replace("- recording.yml", &format!("- {}/recording.yml", rules.display()));
    let config = config.replace("- alerts.yml", &format!("- {}/alerts.yml", rules.display()));
    let config = lab.write("prometheus.yml", &config).display().to_string();
    let storage = format!("--storage.tsdb.path={}", lab.dir().join("tsdb").display());
    let config = format!("--config.file={config}");
    let listen = "--web.listen-address=127.0.0.1:9090";
    let _prometheus = lab.spawn("router", &["prometheus", &config, &storage, listen, "--log.level=warn"]);
    let _traffic = lab.spawn("client", &["ping", "-q", "-i", "0.01", "10.2.0.2"]);
    for _ in 0..5 {
        lab.must("client", &["curl", "-sSf", "-m", "5", "http://10.2.0.2/"]);
    }
    review(&lab);
    // Rules are evaluated a scrape late; two values make a rate.
    let ready = "count_over_time(instance:sluice_worker_skew:ratio[1m]) >= 3";
    daemon.wait_until(|| !empty(&ask(&lab, "query", Some(ready))));

    let rules = ask(&lab, "rules", None);
    let mut queries = alerts(&rules);
    assert_eq!(queries.len(), read(&folder("prometheus/alerts.yml")).matches("- alert:").count());
    queries.extend(panels());
    assert!(queries.len() > 100, "{}", queries.len());
    let mut wrong = Vec::new();
    for (name, query) in &queries {
        let answer = ask(&lab, "query", Some(query));
        if empty(&answer) {
            wrong.push(format!("{name}: {query}\n    {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} queries:\n{}", wrong.len(), queries.len(), wrong.join("\n"));
    for group in rules["data"]["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }
    let firing = ask(&lab, "query", Some("ALERTS{alertstate=\"firing\"}"));
    assert!(empty(&firing), "a router that loses nothing: {firing}");
    daemon.stop();
}

/// Whether there is no answer, or none with a value.
fn empty(answer: &Value) -> bool {
    answer["status"] != "success" || answer["data"]["result"].as_array().is_none_or(Vec::is_empty)
}

/// Prometheus' own review of names, types and HELP texts, which must be sentences.
fn review(lab: &Lab) {
    let metrics = lab.must("router", &["curl", "-sSf", "-m", "5", "http://127.0.0.1:9843/metrics"]);
    let path = lab.write("metrics.txt", &metrics).display().to_string();
    let out = lab.run("router", &["bash", "-c", &format!("promtool check metrics <{path}")]);
    assert!(out.status.success() && text(&out).trim().is_empty(), "promtool check metrics: {}", text(&out));
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap_or((line, ""));
        let begins = help.starts_with(|first: char| first.is_uppercase() || first.is_ascii_digit());
        assert!(begins && help.ends_with('.') && help.split(' ').count() > 1, "{name}: {help}");
    }
}
