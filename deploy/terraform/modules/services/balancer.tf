# The load balancer. Dagster's UI has no login of its own: whoever reaches it may do everything. So it can be reached over
# TLS only, from the given addresses or through a login.

resource "aws_lb" "this" {
  count = var.balancer == null ? 0 : 1

  name                       = var.name
  internal                   = var.balancer.internal
  load_balancer_type         = "application"
  security_groups            = [var.security_group_ids["balancer"]]
  subnets                    = var.balancer.internal ? var.private_subnet_ids : var.public_subnet_ids
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "webserver" {
  count = var.balancer == null ? 0 : 1

  name                 = "${var.name}-webserver"
  vpc_id               = var.vpc_id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = local.webserver.port
  deregistration_delay = 30

  health_check {
    path                = "/server_info"
    interval            = 30
    timeout             = 10
    healthy_threshold   = 2
    unhealthy_threshold = 5
  }
}

resource "aws_lb_listener" "https" {
  count = var.balancer == null ? 0 : 1

  load_balancer_arn = aws_lb.this[0].arn
  protocol          = "HTTPS"
  port              = 443
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.balancer.certificate_arn

  dynamic "default_action" {
    for_each = var.login[*]

    content {
      type  = "authenticate-oidc"
      order = 1

      authenticate_oidc {
        issuer                 = default_action.value.issuer
        authorization_endpoint = default_action.value.authorization_endpoint
        token_endpoint         = default_action.value.token_endpoint
        user_info_endpoint     = default_action.value.user_info_endpoint
        client_id              = default_action.value.client_id
        client_secret          = default_action.value.client_secret
      }
    }
  }

  default_action {
    type             = "forward"
    order            = 2
    target_group_arn = aws_lb_target_group.webserver[0].arn
  }
}

resource "aws_lb_listener" "http" {
  count = var.balancer == null ? 0 : 1

  load_balancer_arn = aws_lb.this[0].arn
  protocol          = "HTTP"
  port              = 80

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}
