//! Every route of every surface refuses the same knocks.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::http::fake::Fake;
use crate::http::router::{Surface, router, routes};

const SURFACES: [Surface; 2] = [Surface::Ops, Surface::Socket];

fn rules(surface: Surface) -> Guard {
    match surface {
        Surface::Ops => Guard::tcp(SocketAddr::from(([10, 0, 0, 7], 9464))),
        Surface::Socket => Guard::socket(),
    }
}

/// Knocks at every route, and at one that does not exist, with these headers.
async fn knock_everywhere(guard: impl Fn(Surface) -> Guard, headers: &[(&str, &str)], expected: StatusCode) {
    for surface in SURFACES {
        let mut doors: Vec<_> = routes(surface).into_iter().map(|route| (route.method, route.path)).collect();
        doors.extend([(Method::GET, "/no/such/route"), (Method::POST, "/no/such/route")]);
        for (method, path) in doors {
            let path = path.replace("{server}", "math").replace("{verb}", "restart").replace("{name}", "math");
            let mut request = Request::builder().method(&method).uri(&path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Body::from("{}")).expect("a request");
            let response = router(surface, Fake::new(), guard(surface)).oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), expected, "{surface:?} {method} {path} {headers:?}");
            for (name, value) in SECURITY_HEADERS {
                assert_eq!(response.headers().get(&name), Some(&value), "{surface:?} {method} {path} {name}");
            }
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        }
    }
}

#[tokio::test]
async fn a_foreign_host_is_forbidden_on_every_route() {
    for host in ["evil.example", "localhost.evil.example", "10.0.0.8", "user@localhost", ""] {
        let headers = [("host", host), ("content-type", "application/json")];
        knock_everywhere(rules, &headers, StatusCode::FORBIDDEN).await;
    }
    knock_everywhere(rules, &[("content-type", "application/json")], StatusCode::FORBIDDEN).await;
    let twice = [("host", "localhost"), ("host", "localhost"), ("content-type", "application/json")];
    knock_everywhere(rules, &twice, StatusCode::FORBIDDEN).await;
}

#[tokio::test]
async fn a_foreign_origin_is_forbidden_on_every_route() {
    for origin in ["http://evil.example", "null", "http://localhost:1", "file://localhost"] {
        let headers = [("host", "localhost"), ("origin", origin), ("content-type", "application/json")];
        knock_everywhere(rules, &headers, StatusCode::FORBIDDEN).await;
    }
    let headers = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("content-type", "application/json")];
    knock_everywhere(rules, &headers, StatusCode::FORBIDDEN).await;
}

#[tokio::test]
async fn a_missing_or_wrong_token_is_unauthorized_on_every_route() {
    let guard = |surface| rules(surface).with_token(Secret::new("open sesame"));
    let headers = [("host", "localhost"), ("content-type", "application/json")];
    knock_everywhere(guard, &headers, StatusCode::UNAUTHORIZED).await;
    for wrong in ["Bearer open", "Bearer open sesamf", "Basic open sesame", "open sesame", "Bearer"] {
        let headers = [("host", "localhost"), ("content-type", "application/json"), ("authorization", wrong)];
        knock_everywhere(guard, &headers, StatusCode::UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn who_may_come_in_comes_in() {
    let check = |guard: Guard, headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri("/healthz");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let described = format!("{headers:?}");
        async move {
            let response = router(Surface::Ops, Fake::new(), guard).oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK, "{described}");
        }
    };
    let bound = || rules(Surface::Ops);
    for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:1", "[::1]:9464", "10.0.0.7:9464"] {
        check(bound(), &[("host", host)]).await;
    }
    check(bound(), &[("host", "localhost:9464"), ("origin", "http://localhost:9464")]).await;
    check(bound().called("Box.example"), &[("host", "box.example:9464")]).await;
    let open = || Guard::tcp(SocketAddr::from(([0, 0, 0, 0], 9464)));
    check(open(), &[("host", "192.168.1.20:9464")]).await;
    check(open().with_token(Secret::new("t")), &[("host", "10.1.1.1"), ("authorization", "bearer t")]).await;
}

#[tokio::test]
async fn a_route_that_takes_no_body_says_so_before_it_looks_at_the_body() {
    for surface in SURFACES {
        for route in routes(surface).into_iter().filter(|route| route.method == Method::GET) {
            let path = route.path.replace("{server}", "math").replace("{name}", "math");
            let request = Request::builder().method(Method::POST).uri(&path).header("host", "localhost");
            let request = request.body(Body::from("a=b")).expect("a request");
            let response = router(surface, Fake::new(), rules(surface)).oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_on_every_route_that_takes_one() {
    for route in routes(Surface::Socket).into_iter().filter(|route| route.method == Method::POST) {
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let path = route.path.replace("{server}", "math").replace("{verb}", "restart").replace("{name}", "math");
            let mut request = Request::builder().method(Method::POST).uri(&path).header("host", "localhost");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let request = request.body(Body::from("{}")).expect("a request");
            let response =
                router(Surface::Socket, Fake::new(), Guard::socket()).oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {content_type:?}");
        }
    }
}
