# `plan` runs the code of a pull request. It compares with the state only (-refresh=false), because a refresh reads the
# secrets that Terraform creates, including their values.
#
# `deploy` pushes the image and applies `platform`. It cannot delete what holds data: databases, secrets, logs, buckets. It
# neither creates roles nor changes whom they trust, and tags nothing but what it creates: so it gains no more than this.

locals {
  data = flatten([for stage in ["ingestion", "transformation"] : [
    "${local.arn}:s3:::totesys-etl-*-${stage}-${local.account}",
    "${local.arn}:s3:::totesys-etl-*-${stage}-${local.account}/*",
  ]])
  compute_logs = "${local.arn}:s3:::${local.name}-compute-logs-${local.account}"
  roles        = [for part in ["code-server", "daemon", "run", "shell", "tunnel", "webserver"] : "${local.arn}:iam::${local.account}:role/${local.name}-${part}*"]
  states       = { for does, environment in var.environments : does => "${var.state_bucket_arn}/${environment}" }

  # in the state too
  logins = { for does, environment in var.environments : does => "${local.arn}:secretsmanager:${local.here}:secret:totesys-etl-${environment}/login-client-secret-*" }

  may_not = {
    plan = {
      NoData = { actions = ["s3:*"], resources = local.data }
    }
    deploy = {
      NoData = { actions = ["s3:*"], resources = local.data }
    }
  }

  may = {
    plan = [
      { sid = "ListStates", actions = ["s3:ListBucket"], resources = [var.state_bucket_arn] },
      { sid = "ReadStates", actions = ["s3:GetObject"], resources = ["${local.states["plan"]}/*.tfstate"] },
      { sid = "FindTheNewestImage", actions = ["ecr:DescribeImages"], resources = ["${local.arn}:ecr:${local.here}:repository/totesys-etl-${var.environments.plan}"] },
      { sid = "ReadTheLogin", actions = ["secretsmanager:GetSecretValue"], resources = [local.logins["plan"]] },
      # AWS supports no resources for these
      { sid = "FindZonesAndMakePasswords", actions = ["ec2:DescribeAvailabilityZones", "secretsmanager:GetRandomPassword"], resources = ["*"] },
    ]

    deploy = [
      { sid = "ListStates", actions = ["s3:ListBucket"], resources = [var.state_bucket_arn] },
      { sid = "ReadStates", actions = ["s3:GetObject"], resources = ["${local.states["deploy"]}/permanent.tfstate"] },
      { sid = "KeepTheState", actions = ["s3:GetObject", "s3:PutObject"], resources = ["${local.states["deploy"]}/platform.tfstate*"] },
      { sid = "Unlock", actions = ["s3:DeleteObject"], resources = ["${local.states["deploy"]}/platform.tfstate.tflock"] },

      # AWS supports no resource for this action
      { sid = "LogInToTheRegistry", actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
      {
        sid = "PushTheImage"
        actions = [
          "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeRepositories",
          "ecr:InitiateLayerUpload", "ecr:ListImages", "ecr:PutImage", "ecr:UploadLayerPart",
        ]
        resources = ["${local.arn}:ecr:${local.here}:repository/${local.name}"]
      },

      {
        sid = "SeeWhatIsThere"
        actions = [
          "cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource",
          "ec2:Describe*",
          "ecs:Describe*", "ecs:ListTagsForResource",
          "events:DescribeRule", "events:List*",
          "elasticloadbalancing:Describe*",
          "logs:DescribeLogGroups", "logs:DescribeMetricFilters", "logs:ListTagsForResource",
          "rds:Describe*", "rds:ListTagsForResource",
          "route53:GetHostedZone", "route53:ListHostedZonesByName",
          "secretsmanager:GetRandomPassword",
          "servicediscovery:Get*", "servicediscovery:List*",
        ]
        resources = ["*"]
      },

      # Network and Cloud Map: AWS chooses the names of these resources, so only tags show whose they are.
      {
        sid = "MakeTheNetwork"
        actions = [
          "ec2:AllocateAddress", "ec2:CreateInternetGateway", "ec2:CreateNatGateway", "ec2:CreateRouteTable",
          "ec2:CreateSecurityGroup", "ec2:CreateSubnet", "ec2:CreateVpc", "ec2:CreateVpcEndpoint",
          # Cloud Map and endpoints create and associate their DNS zones with these
          "route53:AssociateVPCWithHostedZone", "route53:CreateHostedZone",
          # their tags give no permission
          "servicediscovery:CreatePrivateDnsNamespace", "servicediscovery:CreateService", "servicediscovery:TagResource",
        ]
        resources = ["*"]
      },
      {
        sid       = "TagWhatItMakes"
        actions   = ["ec2:CreateTags"]
        resources = ["*"]
        condition = { "ec2:CreateAction" = [
          "AllocateAddress", "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "CreateInternetGateway",
          "CreateNatGateway", "CreateRouteTable", "CreateSecurityGroup", "CreateSubnet", "CreateVpc", "CreateVpcEndpoint",
        ] }
      },
      {
        sid = "ChangeTheNetwork"
        actions = [
          "ec2:AssociateRouteTable", "ec2:AttachInternetGateway", "ec2:AuthorizeSecurityGroup*", "ec2:CreateRoute",
          "ec2:CreateTags", "ec2:Delete*", "ec2:DetachInternetGateway", "ec2:DisassociateRouteTable", "ec2:ModifySecurityGroupRules",
          "ec2:ModifySubnetAttribute", "ec2:ModifyVpcAttribute", "ec2:ModifyVpcEndpoint", "ec2:ReleaseAddress",
          "ec2:ReplaceRoute", "ec2:RevokeSecurityGroup*",
        ]
        resources = ["*"]
        condition = {
          "aws:ResourceTag/application" = ["totesys-etl"]
          "aws:ResourceTag/environment" = [var.environments.deploy]
        }
      },
      # rules of our groups: AWS creates a new group with a rule that has no tags
      {
        sid       = "ChangeRules"
        actions   = ["ec2:AuthorizeSecurityGroup*", "ec2:ModifySecurityGroupRules", "ec2:RevokeSecurityGroup*"]
        resources = ["${local.arn}:ec2:${local.here}:security-group-rule/*"]
      },

      {
        sid = "ChangeTheBalancer"
        actions = [
          "elasticloadbalancing:AddTags", "elasticloadbalancing:Create*", "elasticloadbalancing:Delete*",
          "elasticloadbalancing:Modify*", "elasticloadbalancing:Set*",
        ]
        resources = [
          "${local.arn}:elasticloadbalancing:${local.here}:listener/app/${local.name}/*",
          "${local.arn}:elasticloadbalancing:${local.here}:loadbalancer/app/${local.name}/*",
          "${local.arn}:elasticloadbalancing:${local.here}:targetgroup/${local.name}-*",
        ]
      },
      {
        sid = "ChangeDatabases"
        actions = [
          "rds:AddTagsToResource", "rds:CreateDBInstance", "rds:CreateDBParameterGroup", "rds:CreateDBSubnetGroup",
          "rds:DeleteDBParameterGroup", "rds:ModifyDBInstance", "rds:ModifyDBParameterGroup", "rds:ModifyDBSubnetGroup",
        ]
        resources = [for kind in ["db:${local.name}-*", "og:default*", "pg:${local.name}-*", "subgrp:${local.name}-*"] : "${local.arn}:rds:${local.here}:${kind}"]
      },
      {
        sid = "KeepTheirPasswords"
        actions = [
          "secretsmanager:CreateSecret", "secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy", "secretsmanager:GetSecretValue",
          "secretsmanager:PutSecretValue", "secretsmanager:TagResource", "secretsmanager:UpdateSecret*",
        ]
        resources = [for secret in ["-dagster-password", "-warehouse-password", "/warehouse-database-url"] :
        "${local.arn}:secretsmanager:${local.here}:secret:${local.name}${secret}-*"]
      },
      { sid = "ReadTheLogin", actions = ["secretsmanager:GetSecretValue"], resources = [local.logins["deploy"]] },
      {
        sid = "ChangeServices"
        actions = [
          "ecs:CreateCluster", "ecs:CreateService", "ecs:DeleteService", "ecs:PutClusterCapacityProviders", "ecs:RegisterTaskDefinition",
          "ecs:TagResource", "ecs:Update*",
        ]
        resources = [for kind in ["cluster/${local.name}", "service/${local.name}/*", "task-definition/${local.name}-*"] : "${local.arn}:ecs:${local.here}:${kind}"]
      },
      {
        sid       = "GivePartsPermissions"
        actions   = ["iam:PutRolePolicy"]
        resources = local.roles
        condition = { "iam:PermissionsBoundary" = ["${local.arn}:iam::${local.account}:policy/${local.name}-boundary"] }
      },
      { sid = "TakePartsPermissions", actions = ["iam:DeleteRolePolicy", "iam:GetRolePolicy"], resources = local.roles },
      { sid = "GivePartsTheirRoles", actions = ["iam:PassRole"], resources = local.roles, condition = { "iam:PassedToService" = ["ecs-tasks.amazonaws.com"] } },
      {
        sid       = "LetServicesWork"
        actions   = ["iam:CreateServiceLinkedRole"]
        resources = [for service in ["ecs", "elasticloadbalancing", "rds"] : "${local.arn}:iam::${local.account}:role/aws-service-role/${service}.amazonaws.com/*"]
      },
      {
        sid       = "ChangeLogs"
        actions   = ["logs:CreateLogGroup", "logs:DeleteMetricFilter", "logs:PutMetricFilter", "logs:PutRetentionPolicy", "logs:TagResource"]
        resources = [for group in ["/${local.name}/*", "/aws/rds/instance/${local.name}-*"] : "${local.arn}:logs:${local.here}:log-group:${group}"]
      },
      {
        sid       = "ChangeAlarms"
        actions   = ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"]
        resources = ["${local.arn}:cloudwatch:${local.here}:alarm:${local.name}-*"]
      },
      {
        sid       = "ChangeTheDashboard"
        actions   = ["cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard"]
        resources = ["${local.arn}:cloudwatch::${local.account}:dashboard/${local.name}"]
      },
      {
        sid       = "ChangeNotices"
        actions   = ["events:DeleteRule", "events:PutRule", "events:PutTargets", "events:RemoveTargets", "events:TagResource"]
        resources = ["${local.arn}:events:${local.here}:rule/${local.name}-*"]
      },
      # CloudWatch API reference, PutCompositeAlarm: not with a narrower scope
      { sid = "ChangeCompositeAlarms", actions = ["cloudwatch:PutCompositeAlarm"], resources = ["*"] },
      {
        sid = "ChangeTheBucketOfComputeLogs"
        actions = [
          "s3:CreateBucket", "s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration",
          "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:PutBucket*",
          "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration",
        ]
        resources = [local.compute_logs]
      },
    ]
  }
}
