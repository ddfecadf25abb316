//! `lockstep serve`: whose kernels and which curves the pages show.

use serde_json::json;

use crate::place::{Place, cat};
use crate::serve::{Answer, Host, TOKEN};

fn page(host: &Host, path: &str) -> String {
    let answer = host.ask("GET", path, b"");
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{text}");
    text
}

#[test]
fn only_an_admin_sees_and_stops_the_kernels_of_others() {
    let host = Host::start_with(Place::new(), &["--trust-header", "x-user"]);
    let by = |user: &str, method: &str, path: &str, body: &[u8]| -> Answer {
        host.ask_with(method, path, &[("x-user", user), ("accept", "text/html")], body)
    };
    let start = |user: &str| {
        let env = json!({ "env": { "JPY_SESSION_NAME": format!("/home/{user}/wines.ipynb") } });
        let answer = by(user, "POST", "/api/kernels", env.to_string().as_bytes());
        assert_eq!(answer.status, 201);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let (anns, bobs) = (start("ann"), start("bob"));
    let seen = |user: &str| String::from_utf8(by(user, "GET", "/kernels", b"").body).unwrap();
    let ann = seen("ann");
    assert!(ann.contains(&anns[..7]) && !ann.contains(&bobs[..7]), "{ann}");
    for (user, path, status) in [
        ("bob", format!("/kernels/{anns}/stop"), 404),
        ("bob", format!("/kernels/{anns}/stop?user=ann"), 404),
        ("bob", format!("/kernels/{anns}/stop?user="), 404),
        ("bob", format!("/kernels/{bobs}/stop?who=bob"), 400),
        ("ann", format!("/kernels/{anns}/stop?user=ann"), 200),
    ] {
        assert_eq!(by(user, "GET", &path, b"").status, status, "{user} {path}");
        if status != 200 {
            assert_eq!(by(user, "POST", &path, b"").status, status, "{user} {path}");
        }
    }
    let all = page(&host, "/kernels");
    assert!(
        all.contains(&anns[..7]) && all.contains(&bobs[..7]) && all.contains("wines.ipynb"),
        "{all}"
    );
    // a question changes nothing
    page(&host, &format!("/kernels/{bobs}/stop?user=bob"));
    assert!(seen("bob").contains(&bobs[..7]));
    assert_eq!(host.ask("POST", &format!("/kernels/{bobs}/stop?user=bob"), b"").status, 303);
    assert!(seen("bob").contains("No active kernels."));
    assert_eq!(by("ann", "POST", &format!("/kernels/{anns}/stop"), b"").status, 303);
    assert_eq!(host.ask("GET", &format!("/kernels/{anns}/stop?user=ann"), b"").status, 404);
    // a form of another site stops nothing
    let other = start("ann");
    let from = [("x-user", "ann"), ("origin", "https://elsewhere.example")];
    assert_eq!(
        host.ask_with("POST", &format!("/kernels/{other}/stop"), &from, b"").status,
        403
    );
    assert!(seen("ann").contains(&other[..7]), "{TOKEN}");
}

#[test]
fn curves_are_drawn_and_other_records_are_refused() {
    let host = Host::start();
    let module = host.put(&cat());
    let run = |metrics: &str, media_type: &str| {
        let text = host.put(metrics.as_bytes());
        let request = json!({ "module": module, "inputs": { "text": text }, "stdin": "text", "stdout": "out", "outputs": { "out": media_type } });
        let answer = host.run(&request).json();
        answer["record"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
    };
    let of_metrics = "application/vnd.lockstep.metrics+json";
    let (first, second) = (
        run(r#"{"loss/1":1,"loss/2":0.5,"accuracy":0.75,"only/1":3}"#, of_metrics),
        run(r#"{"loss/1":1e308,"loss/2":-1e308,"<b>/1":1,"<b>/2":2}"#, of_metrics),
    );
    let text = run("text", "text/plain");
    let one = page(&host, &format!("/runs/{first}"));
    assert_eq!(one.matches("<polyline").count(), 1);
    assert!(
        one.contains("accuracy") && one.contains("only/1") && !one.contains("loss/1"),
        "{one}"
    );
    let both = page(&host, &format!("/curves?run={first}&run={second}"));
    assert!(both.contains("the values are too far apart"), "{both}");
    assert!(both.contains("&lt;b&gt;") && !both.contains("<b>"), "{both}");
    let compared = page(&host, &format!("/compare/{first}/{first}"));
    assert_eq!(compared.matches("<polyline").count(), 2);
    assert!(compared.contains("loss (last)"), "{compared}");
    for (path, status) in [
        (format!("/curves?run={text}"), 404),
        ("/curves?run=zz".to_owned(), 404),
        ("/curves?step=nothing".to_owned(), 200),
        ("/curves?runs=a".to_owned(), 400),
    ] {
        assert_eq!(host.ask("GET", &path, b"").status, status, "{path}");
    }
}
